/** Small files that name the same tables, or places past their end, over and over: the work must not grow with the names. */
import { describe, expect, it } from 'vitest';
import { createImage, MemoryStorage, openImage } from '../../../src/index.js';
import { checkImage, checkVerdict, type CheckResult } from '../../../src/operations/check/check-image.js';
import { ReadOnlyStorage } from '../../../src/storage/read-only.js';
import { Qcow2Bytes } from '../../support/qcow2-bytes.js';

const CLUSTER = 4096;
const SNAPSHOT_BYTES = 56;

/** How many bytes of a file are read. */
class ReadCounter extends ReadOnlyStorage {
  bytes = 0;

  override read(offset: number, target: Uint8Array): void {
    this.bytes += target.length;
    super.read(offset, target);
  }
}

function imageBytes(refcountBits: 2 | 16 = 16): Qcow2Bytes {
  const storage = new MemoryStorage();
  createImage(storage, { size: 64 * 2 ** 20, clusterSize: CLUSTER, refcountBits });
  const image = openImage(storage);
  image.write(0, new Uint8Array(8 * CLUSTER).fill(7));
  image.close();
  return new Qcow2Bytes(storage.toBytes());
}

/** The first L1 entry `times` times in all. */
function repeatL1Entry(image: Qcow2Bytes, times: number): void {
  for (let index = 1; index < times; index++) image.setBits(image.l1Offset + 8 * index, image.bits(image.l1Offset));
}

/** `count` snapshots, whose L1 tables begin in the last cluster of the file. */
function addSnapshots(image: Qcow2Bytes, count: number, l1Entries: bigint): void {
  const at = image.append(new Uint8Array(count * SNAPSHOT_BYTES));
  const l1 = image.append(new Uint8Array(CLUSTER));
  image.setBits(64, BigInt(at));
  image.setBits(56, (image.bits(56) & ~0xffff_ffffn) | BigInt(count));
  for (let index = 0; index < count; index++) {
    const entry = at + index * SNAPSHOT_BYTES;
    image.setBits(entry, BigInt(l1));
    image.setBits(entry + 8, l1Entries << 32n);
    image.setBits(entry + 32, 16n);
  }
}

/** A bitmap directory of one entry, in place of the header extensions. Its table begins in the last cluster of the file. */
function addBitmap(image: Qcow2Bytes, tableEntries: bigint): void {
  const directory = image.append(new Uint8Array(32));
  const table = image.append(new Uint8Array(CLUSTER));
  const at = Number(image.bits(96) & 0xffff_ffffn);
  image.fill(at, 48);
  image.setBits(at, (0x23852875n << 32n) | 24n);
  image.setBits(at + 8, 1n << 32n);
  image.setBits(at + 16, 32n);
  image.setBits(at + 24, BigInt(directory));
  image.setBits(88, 1n);
  image.setBits(directory, BigInt(table));
  image.setBits(directory + 8, tableEntries << 32n);
  image.setBits(directory + 16, 0x0110_0001_0000_0000n);
  image.setBits(directory + 24, 0x6100_0000_0000_0000n);
}

function check(image: Qcow2Bytes): CheckResult & { readonly bytes: number } {
  const storage = new ReadCounter(new MemoryStorage(new Uint8Array(image.bytes)));
  const job = checkImage(storage);
  for (;;) {
    const { done, value } = job.next();
    if (done) return { ...value, bytes: storage.bytes };
  }
}

describe('a check of an L1 table that names one L2 table again and again', () => {
  it('comes to the numbers of as many scans, as qemu-img check does', () => {
    const image = imageBytes();
    image.setBits(image.l2EntryAt(7 * CLUSTER), 1n << 40n);
    repeatL1Entry(image, 30);
    // One entry past the end, found 30 times, and the refcounts of the table and of 7 clusters. The cluster it named leaks.
    const numbers = { corruptions: 38, leaks: 1, checkErrors: 0, findingsTotal: 39 };
    expect(check(image)).toMatchObject({ ...numbers, allocatedClusters: 240, fragmentedClusters: 30 });
  });

  it('stops each count where its width does, as qemu-img check does', () => {
    const image = imageBytes(2);
    repeatL1Entry(image, 30);
    // Of 30 names of 9 clusters 3 are counted, and 3 is not the 1 that is recorded.
    const corruptions = 9 * (30 - 3) + 9;
    expect(check(image)).toMatchObject({ corruptions, leaks: 0, checkErrors: 0, findingsTotal: corruptions });
  });

  it('reads the table once to count it, and once for each flag that names it', () => {
    const image = imageBytes();
    const once = check(image).bytes;
    repeatL1Entry(image, 32);
    expect(check(image).bytes - once).toBe(31 * CLUSTER);
  });
});

describe('a check reads no tables past the end of the file', () => {
  it('L1 tables of snapshots', () => {
    const image = imageBytes();
    addSnapshots(image, 16, 4n << 20n);
    const result = check(image);
    expect(result.corruptions).toBeGreaterThanOrEqual(16);
    expect(result.bytes).toBeLessThan(2 ** 20);
  });

  it('a bitmap table', () => {
    const image = imageBytes();
    addBitmap(image, 0x2_0000n);
    const result = check(image);
    expect(result.findings).toContainEqual(expect.objectContaining({ kind: 'past-end' }));
    expect(result.bytes).toBeLessThan(512 * 1024);
  });
});

it('a bitmap table that could name more than 512 MiB is not believed, as in QEMU', () => {
  const image = imageBytes();
  addBitmap(image, 0x2_0001n);
  const result = check(image);
  expect(checkVerdict(result)).toBe(1);
  expect(result.findings).toContainEqual(expect.objectContaining({ kind: 'bitmaps' }));
});
