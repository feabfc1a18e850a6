/**
 * The plain byte array every disk is compared with: what a guest must read, whatever the image below does to get there.
 *
 * Discards follow QEMU 7.2, found by asking it: only whole clusters inside the range are touched (the cut-off cluster
 * at the end of the disk counts as whole), and they read as zeroes afterwards. Only a version 2 image over a backing
 * file ignores a discard: it has no zero clusters, so giving the cluster back would bring old backing data up.
 */

export interface ModelShape {
  /** Bytes; any value. */
  readonly size: number;
  readonly clusterSize: number;
  readonly version: 2 | 3;
  /** What the backing file holds; shorter than the disk reads as zeroes, longer is cut off. */
  readonly backing?: Uint8Array | undefined;
}

/** A range of the disk, in bytes. */
export interface Range {
  readonly offset: number;
  readonly length: number;
}

export class ModelDisk {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #shape: ModelShape;

  constructor(shape: ModelShape) {
    this.#shape = shape;
    this.bytes = new Uint8Array(shape.size);
    if (shape.backing) this.bytes.set(shape.backing.subarray(0, shape.size));
  }

  get size(): number {
    return this.#shape.size;
  }

  write(offset: number, source: Uint8Array): void {
    this.bytes.set(source, offset);
  }

  writeZeroes(offset: number, length: number): void {
    this.bytes.fill(0, offset, offset + length);
  }

  discard(offset: number, length: number): void {
    const { clusterSize, size, version, backing } = this.#shape;
    if (version === 2 && backing) return;
    const first = Math.ceil(offset / clusterSize) * clusterSize;
    const end = offset + length === size ? size : Math.floor((offset + length) / clusterSize) * clusterSize;
    if (first < end) this.bytes.fill(0, first, end);
  }
}

/** Throws with the place and the bytes when two runs of bytes differ; far faster than a deep comparison. */
export function expectSameBytes(actual: Uint8Array, expected: Uint8Array, what: string): void {
  if (actual.length !== expected.length) {
    throw new Error(`${what}: ${actual.length} bytes, expected ${expected.length}`);
  }
  if (Buffer.compare(actual, expected) === 0) return;
  const first = actual.findIndex((byte, index) => byte !== expected[index]);
  let last = actual.length - 1;
  while (actual[last] === expected[last]) last--;
  const show = (bytes: Uint8Array): string => Buffer.from(bytes.subarray(first, first + 8)).toString('hex');
  throw new Error(
    `${what}: bytes differ from offset ${first} (0x${first.toString(16)}) to ${last} (0x${last.toString(16)}): ` +
      `${show(actual)}.., expected ${show(expected)}..`,
  );
}
