/**
 * Random guest operations, made on a disk and on its model alike.
 *
 * Offsets and lengths are drawn so that what breaks disks is met often: cluster edges, whole clusters, single bytes,
 * runs across many clusters, the last bytes of the disk.
 */
import type { Disk } from '../../src/disk.js';
import { expectSameBytes, type ModelDisk, type Range } from './model-disk.js';
import type { SeededRandom } from './seeded-random.js';

export type DiskAction = 'write' | 'writeZeroes' | 'unmap' | 'discard' | 'read';

/** A range inside `size`, of at most `longest` bytes. */
export function randomRange(random: SeededRandom, size: number, clusterSize: number, longest: number): Range {
  const clusters = Math.ceil(size / clusterSize);
  const edge = Math.min(size, random.below(clusters + 1) * clusterSize);
  const near = (spread: number): number => edge + random.between(-spread, spread);
  const choice = random.below(4);
  const wanted = choice === 0 ? edge : choice === 1 ? near(3) : choice === 2 ? near(clusterSize) : random.below(size);
  const offset = Math.max(0, Math.min(size - 1, wanted));
  return { offset, length: Math.min(randomLength(random, clusterSize, longest), size - offset) };
}

function randomLength(random: SeededRandom, clusterSize: number, longest: number): number {
  const clusters = Math.max(1, Math.floor(longest / clusterSize));
  switch (random.below(5)) {
    case 0:
      return random.between(1, Math.min(longest, 16));
    case 1:
      return Math.min(longest, clusterSize * random.between(1, clusters));
    case 2:
      return Math.max(1, Math.min(longest, clusterSize + random.between(-2, 2)));
    case 3:
      return Math.min(longest, 512 * random.between(1, 16));
    default:
      return random.between(1, longest);
  }
}

/** A disk, the model it is compared with, and where the bytes to write come from. */
export interface Compared {
  readonly disk: Disk;
  readonly model: ModelDisk;
  readonly random: SeededRandom;
}

/** Does `action` on disk and model; a read is compared. */
export function act(action: DiskAction, range: Range, { disk, model, random }: Compared): void {
  const { offset, length } = range;
  switch (action) {
    case 'write': {
      const source = random.bytes(length);
      disk.write(offset, source);
      model.write(offset, source);
      break;
    }
    case 'writeZeroes':
    case 'unmap':
      disk.writeZeroes(offset, length, { unmap: action === 'unmap' });
      model.writeZeroes(offset, length);
      break;
    case 'discard':
      disk.discard(offset, length);
      model.discard(offset, length);
      break;
    case 'read':
      expectRange(disk, model, range);
  }
}

/** Reads a range into a buffer full of rubbish and compares it. */
export function expectRange(disk: Disk, model: ModelDisk, { offset, length }: Range): void {
  const target = new Uint8Array(length).fill(0xa5);
  disk.read(offset, target);
  const expected = model.bytes.subarray(offset, offset + length);
  expectSameBytes(target, expected, `a read of ${length} bytes at ${offset}`);
}

/** All of a disk, read in pieces whose size no cluster divides. */
export function readWhole(disk: Disk, pieceBytes = 999_937): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(disk.size).fill(0xa5);
  for (let offset = 0; offset < disk.size; offset += pieceBytes) {
    disk.read(offset, bytes.subarray(offset, Math.min(disk.size, offset + pieceBytes)));
  }
  return bytes;
}
