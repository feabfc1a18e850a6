/** Types of mbr.mjs for the tests. */
export const SECTOR_BYTES: number;
export interface Partition {
  type: number;
  firstSector: number;
  sectors: number;
  boots?: boolean;
}
export function masterBootRecord(options: {
  bootCode: Uint8Array;
  diskId: number;
  partitions: readonly Partition[];
}): Buffer;
