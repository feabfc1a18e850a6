/**
 * A kernel that need not unpack itself: the boot loader's file (bzImage) with the kernel in it as it lies in memory. An emulated
 * processor takes seconds to unpack one; a disk whose clusters are compressed has it here in a moment.
 *
 *     bzImage                                        what comes of it
 *    +--------------+---------+--------+---------+  +--------------+-------+--------------------------+
 *    | setup code   | stub    | packed | un-     |  | setup code   | mover | the kernel as it lies in |
 *    | with header  |         | kernel | packer  |  | with header  |       | memory                   |
 *    +--------------+---------+--------+---------+  +--------------+-------+--------------------------+
 *                   `- loaded at code32_start, in protected mode  -'
 *
 * Fields and entry as in the Linux/x86 boot protocol 2.08 and later. The kernel runs where it was linked to: not for one that is to
 * find itself another place (`nokaslr`). Pure: bytes in, bytes out.
 */

const SECTOR_BYTES = 512;

/** Fields of the setup header. */
const SETUP_SECTORS = 0x1f1;
const SYSTEM_PARAGRAPHS = 0x1f4;
const HEADER_MAGIC = 0x202;
const PROTOCOL_VERSION = 0x206;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const MAGIC = 'HdrS';
const FIRST_WITH_PAYLOAD = 0x208;
const PARAGRAPH_BYTES = 16;

/** Fields of a 32-bit ELF file, little-endian, and of its program headers. */
const ELF_MAGIC = 0x464c_457f;
const ELF_ENTRY = 24;
const ELF_PROGRAM_HEADERS = 28;
const ELF_PROGRAM_HEADER_BYTES = 42;
const ELF_PROGRAM_HEADER_COUNT = 44;
const SEGMENT_LOADED = 1;

/** Behind it the kernel, aligned for the copy. */
const MOVER_BYTES = 64;

/**
 * @param {Buffer} bzImage
 * @returns {Buffer} the packed kernel: a stream in the format that the kernel was configured with, and its unpacked length in four bytes
 * @throws {RangeError} when the file has no kernel that is described so
 */
export function packedKernel(bzImage) {
  const start = protectedModeStart(bzImage) + bzImage.readUInt32LE(PAYLOAD_OFFSET);
  const end = start + bzImage.readUInt32LE(PAYLOAD_LENGTH);
  if (end > bzImage.length) throw new RangeError(`the packed kernel ends at ${end}, its file at ${bzImage.length}`);
  return bzImage.subarray(start, end);
}

/**
 * @param {Buffer} bzImage
 * @param {Buffer} elf what its packed kernel unpacks to
 * @returns {Buffer} a bzImage too
 * @throws {RangeError} that names the field, its value and the limit
 */
export function withUnpackedKernel(bzImage, elf) {
  const { address, entry, bytes } = inMemory(elf);
  const setup = Buffer.from(bzImage.subarray(0, protectedModeStart(bzImage)));
  const length = Math.ceil((MOVER_BYTES + bytes.length) / PARAGRAPH_BYTES) * PARAGRAPH_BYTES;
  setup.writeUInt32LE(length / PARAGRAPH_BYTES, SYSTEM_PARAGRAPHS);
  setup.writeUInt32LE(0, PAYLOAD_OFFSET);
  setup.writeUInt32LE(0, PAYLOAD_LENGTH);
  const system = Buffer.alloc(length);
  system.set(mover({ address, entry, length: length - MOVER_BYTES }));
  system.set(bytes, MOVER_BYTES);
  return Buffer.concat([setup, system]);
}

/** @param {Buffer} bzImage @returns {number} where the part begins that runs in protected mode */
function protectedModeStart(bzImage) {
  const magic = bzImage.toString('latin1', HEADER_MAGIC, HEADER_MAGIC + MAGIC.length);
  if (magic !== MAGIC) throw new RangeError(`the header of the kernel begins with "${magic}", it must be "${MAGIC}"`);
  const version = bzImage.readUInt16LE(PROTOCOL_VERSION);
  if (version < FIRST_WITH_PAYLOAD) {
    throw new RangeError(
      `the boot protocol is ${version}, only from ${FIRST_WITH_PAYLOAD} is the packed kernel described`,
    );
  }
  return (bzImage[SETUP_SECTORS] + 1) * SECTOR_BYTES;
}

/**
 * The loaded segments, each at its physical address. What is not in the file is zero, which the kernel sees to itself.
 * @param {Buffer} elf
 * @returns {{ address: number, entry: number, bytes: Buffer }}
 */
function inMemory(elf) {
  const magic = elf.readUInt32LE(0);
  if (magic !== ELF_MAGIC) throw new RangeError(`the kernel begins with ${magic}, an ELF file with ${ELF_MAGIC}`);
  const segments = loadedSegments(elf);
  const address = Math.min(...segments.map(({ physical }) => physical));
  const end = Math.max(...segments.map(({ physical, bytes }) => physical + bytes.length));
  const memory = Buffer.alloc(end - address);
  for (const { physical, bytes } of segments) memory.set(bytes, physical - address);
  return { address, entry: elf.readUInt32LE(ELF_ENTRY), bytes: memory };
}

/** @param {Buffer} elf */
function loadedSegments(elf) {
  const table = elf.readUInt32LE(ELF_PROGRAM_HEADERS);
  const size = elf.readUInt16LE(ELF_PROGRAM_HEADER_BYTES);
  const count = elf.readUInt16LE(ELF_PROGRAM_HEADER_COUNT);
  const segments = [];
  for (let at = table; at < table + size * count; at += size) {
    if (elf.readUInt32LE(at) !== SEGMENT_LOADED) continue;
    const [offset, physical, length] = [4, 12, 16].map((field) => elf.readUInt32LE(at + field));
    segments.push({ physical, bytes: elf.subarray(offset, offset + length) });
  }
  if (segments.length === 0) throw new RangeError('the kernel has 0 segments to load, at least 1 is needed');
  return segments;
}

/**
 * Copies what lies behind it to `address` and jumps to `entry`, with the registers as they came: ESI has the address of the boot
 * parameters, whose copy of the header says where the loader has put all this. From the end, for the two places may overlap.
 * @param {{ address: number, entry: number, length: number }} options `length` in bytes, a multiple of four
 */
function mover({ address, entry, length }) {
  const code = [
    [0x89, 0xf3], //                                        mov ebx, esi
    [0x8b, 0xb6, ...word(0x214)], //                        mov esi, [esi + code32_start]
    [0x81, 0xc6, ...word(MOVER_BYTES + length - 4)], //     add esi, the last word of the kernel
    [0xbf, ...word(address + length - 4)], //               mov edi, where it goes
    [0xb9, ...word(length / 4)], //                         mov ecx, words
    [0xfd, 0xf3, 0xa5, 0xfc], //                            std; rep movsd; cld
    [0x89, 0xde], //                                        mov esi, ebx
    [0x31, 0xdb, 0x31, 0xff], //                            xor ebx, ebx; xor edi, edi
    [0xb8, ...word(entry), 0xff, 0xe0], //                  mov eax, entry; jmp eax
  ].flat();
  return Uint8Array.from(code);
}

/** @param {number} value @returns {number[]} four bytes, little-endian */
function word(value) {
  return [value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24];
}
