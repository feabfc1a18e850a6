/**
 * A table of damages: one line says what is damaged, one function does it to the bytes of a sound image. Each is done to a
 * copy for QEMU and a copy for us, and both repair.
 *
 * The image has a disk of 8 MiB in clusters of 4 KiB (an L2 table maps 2 MiB), and one snapshot, `before`:
 *
 *   0 M   data that the snapshot shares      1 M  data written after the snapshot, the active disk's alone
 *   2 M   data                               3 M  compressed clusters
 *   4 M   zero clusters, allocated           6 M  nothing
 */
import type { Qcow2Bytes } from '../support/qcow2-bytes.js';

export const MIB = 2 ** 20;
export const SHARED = 0;
export const OWN = MIB;
export const OTHER = 2 * MIB;
export const COMPRESSED = 3 * MIB;
export const ZERO = 4 * MIB;
export const NOTHING = 6 * MIB;

const COPIED = 1n << 63n;

export interface Damage {
  readonly what: string;
  readonly damage: (image: Qcow2Bytes) => void;
  /** Options of `qemu-img create` for the image. */
  readonly options?: Readonly<Record<string, string | number>>;
  /** False for an image without the snapshot, which some features do not allow. Default true. */
  readonly snapshot?: boolean;
  /** True for an image with a persistent bitmap. */
  readonly bitmap?: boolean;
  /** QEMU counts one thing more as repaired: it makes the file long enough for a block that lies past its end. */
  readonly growsFile?: boolean;
  /** Where QEMU 7.2 does not get to an end that we would want: why, and what our repair must come to. */
  readonly otherwise?: { readonly why: string; readonly verdict: 0 | 2; readonly losesData?: boolean };
}

const own = (image: Qcow2Bytes) => image.hostOf(OWN);

/** Damages to refcounts alone: nothing that names a cluster is wrong. */
export const REFCOUNT_DAMAGES: readonly Damage[] = [
  { what: 'a leaked cluster', damage: (image) => image.setRefcount(image.append(new Uint8Array(4096)), 1) },
  { what: 'a hundred leaked clusters', damage: (image) => leak(image, 100) },
  { what: 'a refcount too high', damage: (image) => image.setRefcount(own(image), 7) },
  { what: 'a refcount of two, used once', damage: (image) => image.setRefcount(own(image), 2) },
  { what: 'a refcount of one, used twice', damage: (image) => image.setRefcount(image.hostOf(SHARED), 1) },
  { what: 'a refcount of zero on data', damage: (image) => image.setRefcount(own(image), 0) },
  { what: 'a refcount of zero on an L2 table', damage: (image) => image.setRefcount(image.l2TableOf(OWN), 0) },
  { what: 'a refcount of zero on the L1 table', damage: (image) => image.setRefcount(image.l1Offset, 0) },
  { what: 'a refcount of zero on the header', damage: (image) => image.setRefcount(0, 0) },
  { what: 'the refcount table counted as free', damage: (image) => image.setRefcount(image.refcountTableOffset, 0) },
  { what: 'a refcount block counted as free', damage: (image) => image.setRefcount(image.refcountBlock(0), 0) },
  { what: 'the snapshot table counted as free', damage: (image) => image.setRefcount(image.snapshotsOffset, 0) },
  { what: "a snapshot's L1 table counted as free", damage: (image) => image.setRefcount(image.snapshotL1, 0) },
  { what: 'a compressed cluster counted once too often', damage: (image) => tooHighCompressed(image) },
  { what: 'a refcount block all zeroes', damage: (image) => image.fill(image.refcountBlock(0), 4096) },
  { what: 'a refcount block all ones', damage: (image) => image.fill(image.refcountBlock(0), 4096, 0xff) },
  ...[1, 2, 4, 8, 32, 64].map((bits): Damage => ({
    what: `refcounts of ${bits} bits, one too low`,
    options: { refcount_bits: bits },
    snapshot: bits >= 8,
    damage: (image) => image.setRefcount(bits >= 8 ? image.hostOf(SHARED) : own(image), bits >= 8 ? 1 : 0),
  })),
  ...[2, 4, 8, 32, 64].map((bits): Damage => ({
    what: `refcounts of ${bits} bits, one too high`,
    options: { refcount_bits: bits },
    snapshot: bits >= 8,
    damage: (image) => image.setRefcount(own(image), 3),
  })),
  {
    what: 'refcounts of 1 bit, a leak',
    options: { refcount_bits: 1 },
    snapshot: false,
    damage: (image) => image.setRefcount(image.append(new Uint8Array(4096)), 1),
  },
];

/** Damages to the refcount table and to where its blocks lie. */
export const REFCOUNT_TABLE_DAMAGES: readonly Damage[] = [
  { what: 'a lost refcount block', damage: (image) => image.setBits(image.refcountTableOffset, 0n) },
  {
    what: 'one lost refcount block of several',
    options: { refcount_bits: 64 },
    damage: (image) => image.setBits(image.refcountTableOffset + 8, 0n),
  },
  { what: 'a refcount table of zeroes', damage: (image) => image.fill(image.refcountTableOffset, 4096) },
  {
    what: 'a refcount table entry with reserved bits',
    damage: (image) => flip(image, image.refcountTableOffset, 4n),
    otherwise: { why: 'QEMU puts a new block on the old one and stops at its own overlap check', verdict: 0 },
  },
  {
    what: 'a refcount table entry off a cluster',
    damage: (image) => flip(image, image.refcountTableOffset, 0x200n),
    otherwise: { why: 'QEMU marks the image corrupt while it reads the block and can not write any more', verdict: 0 },
  },
  {
    what: 'a second refcount table entry off a cluster',
    damage: (image) => image.setBits(image.refcountTableOffset + 8, 0x1200n),
  },
  {
    what: 'a refcount table entry past the end of the file',
    growsFile: true,
    damage: (image) => image.setBits(image.refcountTableOffset, BigInt(image.length + 64 * 4096)),
  },
  {
    what: 'an unused refcount table entry past the end of the file',
    growsFile: true,
    damage: (image) => image.setBits(image.refcountTableOffset + 16, BigInt(image.length + 64 * 4096)),
  },
  {
    what: 'two refcount table entries on one block',
    damage: (image) => image.setBits(image.refcountTableOffset + 8, BigInt(image.refcountBlock(0))),
  },
  {
    what: 'a refcount table entry on a data cluster',
    damage: (image) => image.setBits(image.refcountTableOffset, BigInt(own(image))),
  },
  {
    what: 'a refcount table entry on the L1 table',
    damage: (image) => image.setBits(image.refcountTableOffset + 8, BigInt(image.l1Offset)),
  },
  { what: 'the header names no refcount table', damage: (image) => image.setU32(56, 0) },
  { what: 'the refcount table at the header', growsFile: true, damage: (image) => image.setBits(48, 0n) },
  {
    what: 'the refcount table past the end of the file',
    damage: (image) => image.setBits(48, BigInt(Math.ceil(image.length / 4096) * 4096 + 16 * 4096)),
  },
  { what: 'the refcount table on the L1 table', damage: (image) => image.setBits(48, BigInt(image.l1Offset)) },
];

/** Damages to COPIED flags and to the entries of L1 and L2 tables. */
export const TABLE_DAMAGES: readonly Damage[] = [
  { what: 'COPIED missing on data', damage: (image) => flip(image, image.l2EntryAt(OWN), COPIED) },
  { what: 'COPIED on shared data', damage: (image) => flip(image, image.l2EntryAt(SHARED), COPIED) },
  { what: 'COPIED missing on an L2 table', damage: (image) => flip(image, image.l1EntryAt(OWN), COPIED) },
  { what: 'COPIED on a compressed cluster', damage: (image) => flip(image, image.l2EntryAt(COMPRESSED), COPIED) },
  { what: 'COPIED wrong in a whole table', damage: (image) => everyEntry(image, OWN, (bits) => bits ^ COPIED) },
  { what: 'COPIED on an L1 entry of none', damage: (image) => flip(image, image.l1EntryAt(NOTHING), COPIED) },
  {
    what: 'two guest clusters on one host cluster',
    damage: (image) => image.setBits(image.l2EntryAt(OWN), image.bits(image.l2EntryAt(OWN + 4096))),
  },
  {
    what: 'two L1 entries on one L2 table',
    damage: (image) => image.setBits(image.l1EntryAt(NOTHING), image.bits(image.l1EntryAt(OTHER))),
  },
  {
    what: 'a cluster named more often than its refcount can count',
    options: { refcount_bits: 8 },
    damage: (image) => {
      const entry = image.bits(image.l2EntryAt(OTHER));
      for (let index = 0; index < 512; index++) image.setBits(image.l2TableOf(OTHER) + 8 * index, entry);
    },
  },
  { what: 'data on the L1 table', damage: (image) => pointTo(image, OWN, image.l1Offset) },
  { what: 'data on the refcount table', damage: (image) => pointTo(image, OWN, image.refcountTableOffset) },
  { what: 'data on a refcount block', damage: (image) => pointTo(image, OWN, image.refcountBlock(0)) },
  { what: 'data on an L2 table', damage: (image) => pointTo(image, OWN, image.l2TableOf(OTHER)) },
  { what: 'data on the header', damage: (image) => pointTo(image, OWN, 0) },
  {
    what: 'an L2 table on a refcount block',
    damage: (image) => image.setBits(image.l1EntryAt(NOTHING), BigInt(image.refcountBlock(0)) | COPIED),
  },
  {
    what: 'an L2 table on the header',
    damage: (image) => image.setBits(image.l1EntryAt(NOTHING), COPIED | 0n),
  },
  { what: 'an L1 entry off a cluster', damage: (image) => flip(image, image.l1EntryAt(OTHER), 0x200n) },
  { what: 'an L1 entry with reserved bits', damage: (image) => flip(image, image.l1EntryAt(OTHER), 1n << 57n) },
  { what: 'an L1 entry with low reserved bits', damage: (image) => flip(image, image.l1EntryAt(OTHER), 2n) },
  {
    what: 'an L1 entry past the end of the file',
    damage: (image) => image.setBits(image.l1EntryAt(NOTHING), BigInt(image.length + 64 * 4096) | COPIED),
  },
  { what: 'an L2 entry off a cluster', damage: (image) => flip(image, image.l2EntryAt(OTHER), 0x200n) },
  { what: 'a zero cluster off a cluster', damage: (image) => flip(image, image.l2EntryAt(ZERO), 0x600n) },
  {
    what: 'a table of zero clusters off a cluster',
    damage: (image) => everyEntry(image, ZERO, (bits) => ((bits & 1n) === 0n ? bits : bits ^ 0x200n)),
  },
  { what: 'an L2 entry with reserved bits', damage: (image) => flip(image, image.l2EntryAt(OTHER), 1n << 60n) },
  { what: 'an L2 entry with low reserved bits', damage: (image) => flip(image, image.l2EntryAt(OTHER), 0x10n) },
  { what: 'an L2 entry past the end of the file', damage: (image) => pointTo(image, OTHER, image.length + 9 * 4096) },
  { what: 'an L2 entry at 2^55', damage: (image) => image.setBits(image.l2EntryAt(OTHER), COPIED | (1n << 55n)) },
  {
    what: 'a compressed cluster past the end of the file',
    damage: (image) => image.setBits(image.l2EntryAt(COMPRESSED), (1n << 62n) | BigInt(image.length + 20000)),
  },
  {
    what: 'a compressed cluster of too many sectors',
    damage: (image) =>
      image.setBits(image.l2EntryAt(COMPRESSED), image.bits(image.l2EntryAt(COMPRESSED)) | (15n << 58n)),
  },
  { what: 'an L2 table of noise', damage: (image) => noise(image, image.l2TableOf(OTHER)) },
];

/** Damages to snapshots, to the header, to the file as a whole. */
export const OTHER_DAMAGES: readonly Damage[] = [
  { what: "a snapshot's L1 table off a cluster", damage: (image) => flip(image, image.snapshotsOffset, 0x200n) },
  {
    what: "a snapshot's L1 table too long",
    damage: (image) => image.setU32(image.snapshotsOffset + 8, 0x500001),
    otherwise: { why: 'QEMU takes all that the table would cover for metadata and stops half way', verdict: 2 },
  },
  {
    what: "a snapshot's L1 table past the end of the file",
    damage: (image) => image.setBits(image.snapshotsOffset, 1n << 32n),
  },
  {
    what: "a snapshot's L1 entry lost",
    damage: (image) => image.setBits(image.l1EntryAt(OTHER, image.snapshotL1), 0n),
  },
  {
    what: "a snapshot's L1 entry off a cluster",
    damage: (image) => flip(image, image.l1EntryAt(OTHER, image.snapshotL1), 0x200n),
  },
  { what: 'a snapshot without the extra data of version 3', damage: (image) => cutExtraData(image) },
  { what: 'a snapshot with too much extra data', damage: (image) => stretchExtraData(image) },
  { what: 'a lost snapshot table', damage: (image) => image.setBits(60, 0n) },
  { what: 'the dirty bit and refcounts of zero', damage: (image) => markAnd(image, 1n) },
  { what: 'the corrupt bit, nothing else', damage: (image) => flip(image, 72, 2n) },
  { what: 'the corrupt bit and refcounts of zero', damage: (image) => markAnd(image, 2n) },
  {
    what: 'unknown autoclear bits and a leak',
    damage: (image) => (flip(image, 88, 1n << 40n), leak(image, 3)),
    otherwise: { why: 'QEMU clears the bits before it has read the snapshots, and loses them all', verdict: 0 },
  },
  {
    what: 'unknown autoclear bits and a leak, no snapshot',
    damage: (image) => (flip(image, 88, 1n << 40n), leak(image, 3)),
    snapshot: false,
  },
  { what: 'a file cut in its last cluster', damage: (image) => image.truncate(image.length - 100) },
  { what: 'a file cut by eight clusters', damage: (image) => image.truncate(image.length - 8 * 4096) },
  {
    what: 'a file cut by eight clusters, and a lost refcount block',
    otherwise: {
      why: 'QEMU puts the new blocks where lost clusters were, so that the disk shows them',
      verdict: 0,
      losesData: true,
    },
    damage: (image) => (image.setBits(image.refcountTableOffset, 0n), image.truncate(image.length - 8 * 4096)),
  },
  { what: 'a file cut to its first fifty clusters', damage: (image) => image.truncate(50 * 4096) },
  {
    what: 'a file with a tail of garbage',
    damage: (image) => void image.append(new Uint8Array(3 * 4096 + 77).fill(0xa5)),
  },
];

const DATA_FILE = { options: { data_file: 'data' }, snapshot: false };

/** Damages to images with the newer features. QEMU 7.2 loses the snapshots of an image with bitmaps when it repairs it. */
export const FEATURE_DAMAGES: readonly Damage[] = [
  ...extendedL2(),
  {
    what: 'a data file, COPIED missing',
    ...DATA_FILE,
    damage: (image) => flip(image, image.l2EntryAt(OWN), COPIED),
  },
  {
    what: 'a data file, a lost refcount block',
    ...DATA_FILE,
    damage: (image) => image.setBits(image.refcountTableOffset, 0n),
  },
  {
    what: 'a data file, an L2 table counted as free',
    ...DATA_FILE,
    damage: (image) => image.setRefcount(image.l2TableOf(OTHER), 0),
  },
  {
    what: 'a data file, a compressed cluster',
    ...DATA_FILE,
    damage: (image) => image.setBits(image.l2EntryAt(OWN), 0x4000_0000_0000_5000n),
  },
  {
    what: 'bitmaps, their directory counted as free',
    bitmap: true,
    snapshot: false,
    damage: (image) => image.setRefcount(bitmapDirectory(image), 0),
  },
  {
    what: 'bitmaps, a lost refcount block',
    bitmap: true,
    snapshot: false,
    damage: (image) => image.setBits(image.refcountTableOffset, 0n),
  },
  {
    what: 'bitmaps, a table entry past the end of the file',
    bitmap: true,
    snapshot: false,
    otherwise: { why: 'QEMU loads the bitmaps as it opens the image, and writes new ones as it closes it', verdict: 2 },
    damage: (image) => image.setBits(bitmapTable(image), 1n << 40n),
  },
  {
    what: 'bitmaps, a table entry with reserved bits',
    bitmap: true,
    snapshot: false,
    damage: (image) => flip(image, bitmapTable(image), 1n << 60n),
  },
  { what: 'bitmaps that no bit vouches for', bitmap: true, snapshot: false, damage: (image) => flip(image, 88, 1n) },
  {
    what: 'version 2, COPIED missing',
    options: { compat: '0.10' },
    damage: (image) => flip(image, image.l2EntryAt(OWN), COPIED),
  },
  {
    what: 'version 2, a lost refcount block',
    options: { compat: '0.10' },
    damage: (image) => image.setBits(image.refcountTableOffset, 0n),
  },
];

function extendedL2(): Damage[] {
  const rows: Pick<Damage, 'what' | 'damage'>[] = [
    { what: 'COPIED missing', damage: (image) => flip(image, image.l2EntryAt(OWN), COPIED) },
    { what: 'a lost refcount block', damage: (image) => image.setBits(image.refcountTableOffset, 0n) },
    { what: 'an L2 entry past the end', damage: (image) => pointTo(image, OTHER, image.length * 2) },
    { what: 'a leak', damage: (image) => image.setRefcount(image.append(new Uint8Array(image.clusterSize)), 1) },
    {
      what: 'subclusters allocated and zero',
      damage: (image) => image.setBits(image.l2EntryAt(OWN) + 8, 0x1_0000_0001n),
    },
    { what: 'subclusters of no cluster', damage: (image) => image.setBits(image.l2EntryAt(OWN), 0n) },
    {
      what: 'a compressed cluster with subclusters',
      damage: (image) => image.setBits(image.l2EntryAt(COMPRESSED) + 8, 1n),
    },
    {
      what: 'a zero cluster off a cluster',
      damage: (image) => {
        flip(image, image.l2EntryAt(ZERO), 0x200n);
        image.setBits(image.l2EntryAt(ZERO) + 8, 0xffff_ffffn << 32n);
      },
    },
  ];
  const options = { extended_l2: 'on', cluster_size: 16384 };
  return rows.map(({ what, damage }) => ({ what: `extended L2 entries, ${what}`, damage, options }));
}

/** Where the bitmap directory lies: in the header extension of bitmaps. */
function bitmapDirectory(image: Qcow2Bytes): number {
  for (let at = image.u32(100); ; at += 8 + Math.ceil(image.u32(at + 4) / 8) * 8) {
    if (image.u32(at) === 0x23852875) return image.u64(at + 8 + 16);
    if (image.u32(at) === 0) throw new Error('the image has no bitmaps extension');
  }
}

/** Where the table of the first bitmap lies. */
function bitmapTable(image: Qcow2Bytes): number {
  return image.u64(bitmapDirectory(image));
}

function flip(image: Qcow2Bytes, at: number, mask: bigint): void {
  image.setBits(at, image.bits(at) ^ mask);
}

function pointTo(image: Qcow2Bytes, guest: number, host: number): void {
  const aligned = Math.floor(host / image.clusterSize) * image.clusterSize;
  image.setBits(image.l2EntryAt(guest), BigInt(aligned) | COPIED);
}

function leak(image: Qcow2Bytes, clusters: number): void {
  const at = image.append(new Uint8Array(clusters * image.clusterSize));
  for (let index = 0; index < clusters; index++) image.setRefcount(at + index * image.clusterSize, 1);
}

function everyEntry(image: Qcow2Bytes, guest: number, change: (bits: bigint) => bigint): void {
  const table = image.l2TableOf(guest);
  for (let at = table; at < table + image.clusterSize; at += 8) {
    if (image.bits(at) !== 0n) image.setBits(at, change(image.bits(at)));
  }
}

function tooHighCompressed(image: Qcow2Bytes): void {
  const host = Number(image.bits(image.l2EntryAt(COMPRESSED)) & ((1n << 58n) - 1n));
  image.setRefcount(host - (host % image.clusterSize), 200);
}

function noise(image: Qcow2Bytes, table: number): void {
  let state = 12345n;
  for (let at = table; at < table + image.clusterSize; at += 8) {
    state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffff_ffff_ffff_ffffn;
    image.setBits(at, state);
  }
}

function cutExtraData(image: Qcow2Bytes): void {
  const at = image.snapshotsOffset;
  const extra = image.u32(at + 36);
  const words = image.bytes.subarray(at + 40 + extra, at + 40 + extra + 64);
  image.setU32(at + 36, 0);
  image.bytes.set(Buffer.from(words), at + 40);
}

function stretchExtraData(image: Qcow2Bytes): void {
  const at = image.snapshotsOffset;
  const extra = image.u32(at + 36);
  const words = Buffer.from(image.bytes.subarray(at + 40 + extra, at + 40 + extra + 64));
  image.setU32(at + 36, 1100);
  image.bytes.set(words, at + 40 + 1100);
}

function markAnd(image: Qcow2Bytes, bit: bigint): void {
  flip(image, 72, bit);
  for (let at = OWN; at < OWN + 8 * 4096; at += 4096) image.setRefcount(image.hostOf(at), 0);
}
