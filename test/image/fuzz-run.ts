/**
 * Fuzz: small valid images with a few bytes of their metadata changed. It proves that opening, reading, writing and
 * closing one ends
 * - in success or with a `Qcow2Error`, never with a TypeError, a RangeError or an assertion of ours;
 * - soon: no loop follows a damaged count;
 * - with a file of the size that the work explains: no damaged offset makes it grow out of proportion.
 */
import { expect } from 'vitest';
import { isQcow2Error, MemoryStorage, openImage } from '../../src/index.js';
import type { Storage } from '../../src/storage/storage.js';
import type { SeededRandom } from '../support/seeded-random.js';
import { CLUSTER_SIZE, type SmallImage } from './damaged.js';

const SLOWEST_MILLISECONDS = 3000;
const LARGEST_FILE_BYTES = 64 * 0x10_0000;

/** Values that have broken parsers before. */
const EVIL = [0n, 1n, 0x200n, 0x1000n, 0x7fff_ffffn, 0xffff_ffffn, 1n << 40n, 1n << 53n, 1n << 62n, (1n << 64n) - 1n];

/** Refuses to hold more than any of these runs can need, and remembers that it was asked to. */
class BoundedStorage implements Storage {
  readonly readOnly = false;
  readonly #inner: MemoryStorage;
  largestBytes = 0;

  constructor(bytes: Uint8Array) {
    this.#inner = new MemoryStorage(bytes);
  }

  get size(): number {
    return this.#inner.size;
  }

  read(offset: number, target: Uint8Array): void {
    this.#inner.read(offset, target);
  }

  write(offset: number, source: Uint8Array): void {
    this.#bound(offset + source.length);
    this.#inner.write(offset, source);
  }

  truncate(size: number): void {
    this.#bound(size);
    this.#inner.truncate(size);
  }

  flush(): void {}

  close(): void {}

  #bound(size: number): void {
    this.largestBytes = Math.max(this.largestBytes, size);
    if (size > LARGEST_FILE_BYTES) throw new Error(`a file of ${size} bytes`);
  }
}

function damage({ bytes, view, l1, l2, refcountTable, refcountBlock }: SmallImage, random: SeededRandom): string {
  const tables = [0, 0, l1, l2, refcountTable, refcountBlock];
  const done: string[] = [];
  for (let count = random.between(1, 4); count > 0; count--) {
    const table = random.pick(tables);
    // Most of what matters is at the start of each table.
    const at = table + random.below(random.oneIn(3) ? CLUSTER_SIZE - 8 : 128);
    if (random.oneIn(2)) {
      const flip = 1 << random.below(8);
      bytes[at] = (bytes[at] ?? 0) ^ flip;
      done.push(`byte ${at} ^ ${flip}`);
    } else {
      const value = random.pick(EVIL);
      view.setBigUint64(at & ~7, value);
      done.push(`64 bits at ${at & ~7} = ${value}`);
    }
  }
  return done.join(', ');
}

/** Everything a guest may do; the first error ends it. */
function use(storage: Storage, readOnly: boolean, random: SeededRandom): void {
  const image = openImage(storage, { readOnly, backing: null });
  const place = (): number => (random.oneIn(3) ? random.below(Math.max(1, image.size - 20_000)) : random.below(70_000));
  for (let count = 0; count < 6; count++) {
    const offset = Math.min(place(), Math.max(0, image.size - 20_000));
    const length = Math.min(20_000, image.size - offset);
    image.read(offset, new Uint8Array(length));
    for (const extent of image.extents(offset, length)) expect(extent.length).toBeGreaterThan(0);
    if (readOnly) continue;
    image.write(offset, new Uint8Array(length).fill(count));
    image.writeZeroes(Math.max(0, offset - 3000), Math.min(9000, image.size), { unmap: random.oneIn(2) });
    image.discard(offset, length);
    image.flush();
  }
  image.close();
}

/** Damages a copy of `original` in each of `rounds` rounds and uses it. Throws with the round and the damage. */
export function fuzz(original: SmallImage, rounds: number, random: SeededRandom): void {
  for (let round = 0; round < rounds; round++) {
    const bytes = original.bytes.slice();
    const image = { ...original, bytes, view: new DataView(bytes.buffer) };
    const what = `round ${round} (${damage(image, random)})`;
    const storage = new BoundedStorage(bytes);
    const began = performance.now();
    try {
      use(storage, random.oneIn(3), random);
    } catch (error) {
      if (!isQcow2Error(error)) throw new Error(`${what}: ${String(error)}`, { cause: error });
    }
    expect(performance.now() - began, `milliseconds of ${what}`).toBeLessThan(SLOWEST_MILLISECONDS);
    expect(storage.largestBytes, `file bytes of ${what}`).toBeLessThan(LARGEST_FILE_BYTES);
  }
}
