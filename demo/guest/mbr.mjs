/**
 * The first sector of a PC disk: boot code and a table of four partitions. Pure: records in, bytes out.
 *
 *     0                        440         446                             510   512
 *    +------------------------+-----+-----+-----+-----+-----+-----+-------+-----+
 *    | boot code              | id  |  0  | partition 1 .. 4, 16 bytes each | 55AA|
 *    +------------------------+-----+-----+---------------------------------+-----+
 *    partition: flag (80 = boots) | first CHS (3) | type | last CHS (3) | first sector (4) | sectors (4), little-endian
 *
 * The CHS fields say "beyond CHS": BIOS and kernels then use the sector numbers.
 */

export const SECTOR_BYTES = 512;

const BOOT_CODE_BYTES = 440;
const DISK_ID_OFFSET = 440;
const TABLE_OFFSET = 446;
const ENTRY_BYTES = 16;
const SIGNATURE_OFFSET = 510;
const BEYOND_CHS = [0xfe, 0xff, 0xff];

/**
 * @typedef {{ type: number, firstSector: number, sectors: number, boots?: boolean }} Partition
 */

/**
 * @param {{ bootCode: Uint8Array, diskId: number, partitions: readonly Partition[] }} options
 *   `bootCode` at most 440 bytes; at most four partitions, none of them over another or over this sector
 * @returns {Buffer} 512 bytes
 * @throws {RangeError} that names the field, its value and the limit
 */
export function masterBootRecord({ bootCode, diskId, partitions }) {
  if (bootCode.length > BOOT_CODE_BYTES) {
    throw new RangeError(`boot code has ${bootCode.length} bytes, at most ${BOOT_CODE_BYTES} fit`);
  }
  if (partitions.length > 4) throw new RangeError(`${partitions.length} partitions given, at most 4 fit`);
  checkPlaces(partitions);
  const sector = Buffer.alloc(SECTOR_BYTES);
  sector.set(bootCode, 0);
  sector.writeUInt32LE(diskId, DISK_ID_OFFSET);
  partitions.forEach((partition, index) => writeEntry(sector, TABLE_OFFSET + index * ENTRY_BYTES, partition));
  sector.writeUInt16LE(0xaa55, SIGNATURE_OFFSET);
  return sector;
}

/** @param {readonly Partition[]} partitions */
function checkPlaces(partitions) {
  let freeFrom = 1;
  for (const { firstSector, sectors } of partitions.toSorted((a, b) => a.firstSector - b.firstSector)) {
    if (firstSector < freeFrom)
      throw new RangeError(`partition at sector ${firstSector} begins before sector ${freeFrom}`);
    if (sectors < 1)
      throw new RangeError(`partition at sector ${firstSector} has ${sectors} sectors, at least 1 is needed`);
    freeFrom = firstSector + sectors;
    if (freeFrom > 2 ** 32) throw new RangeError(`partition at sector ${firstSector} ends past sector ${2 ** 32 - 1}`);
  }
}

/**
 * @param {Buffer} sector
 * @param {number} offset
 * @param {Partition} partition
 */
function writeEntry(sector, offset, { type, firstSector, sectors, boots = false }) {
  sector.set([boots ? 0x80 : 0, ...BEYOND_CHS, type, ...BEYOND_CHS], offset);
  sector.writeUInt32LE(firstSector, offset + 8);
  sector.writeUInt32LE(sectors, offset + 12);
}
