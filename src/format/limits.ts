/** Limits of the format and of QEMU's driver, which an image that QEMU is to open must keep. */

export const MIN_CLUSTER_BITS = 9;
export const MAX_CLUSTER_BITS = 21;
/** Subclusters must have at least a sector. */
export const MIN_EXTENDED_L2_CLUSTER_BITS = 14;
export const MAX_REFCOUNT_ORDER = 6;

/** Bytes of the active L1 table, and of each snapshot's. */
export const MAX_L1_BYTES = 32 * 1024 * 1024;
/** Bytes of the refcount table. */
export const MAX_REFCOUNT_TABLE_BYTES = 8 * 1024 * 1024;
export const MAX_SNAPSHOTS = 65536;
/** Bytes of the snapshot table. */
export const MAX_SNAPSHOT_TABLE_BYTES = 1024 * MAX_SNAPSHOTS;
/** Bytes of the extra data of one snapshot. */
export const MAX_SNAPSHOT_EXTRA_BYTES = 1024;
/** Bytes of the backing file's name. */
export const MAX_BACKING_NAME_BYTES = 1023;
/** Host offsets of tables and data have 56 bits. Ours stop earlier: see `util/big-endian.ts`. */
export const MAX_HOST_OFFSET = 2 ** 53 - 1;
/** Bytes of a sector: the unit of compressed sizes, and the smallest write that we count on not to tear. */
export const SECTOR_BYTES = 512;

export const MAX_BITMAPS = 65535;
/** Bytes of the bitmap directory. */
export const MAX_BITMAP_DIRECTORY_BYTES = 1024 * MAX_BITMAPS;
/** Bytes of a bitmap's name. */
export const MAX_BITMAP_NAME_BYTES = 1023;
/** Of the bytes of the disk that one bit of a bitmap stands for. */
export const MIN_GRANULARITY_BITS = 9;
export const MAX_GRANULARITY_BITS = 31;
/** Bytes of a bitmap, and of the clusters that its table can name: it is held in memory. */
export const MAX_BITMAP_BYTES = 512 * 1024 * 1024;
/** The same of all bitmaps of an image together: tables can be shared, so a small file can name as much as it likes. */
export const MAX_BITMAPS_BYTES = 2 * MAX_BITMAP_BYTES;
