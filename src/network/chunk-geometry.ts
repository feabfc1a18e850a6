/**
 * A base image cut into chunks: the unit that is fetched, kept and looked for. A power of two, so that chunks of any two sizes nest,
 * from 64 KiB (what one lookup of the engine reads at most) to 4 MiB (what a slow line brings within a guest's patience).
 */
import { Qcow2Error } from '../errors.js';
import { divideUp, isPowerOfTwo } from '../util/integers.js';

export const SMALLEST_CHUNK_BYTES = 64 * 1024;
export const LARGEST_CHUNK_BYTES = 4 * 1024 * 1024;

/** Measured (bench/README.md, "Chunks"): smaller ones cost round trips, larger ones bytes that nobody reads. */
export const DEFAULT_CHUNK_BYTES = 128 * 1024;

/** The presence map of a base is held in memory, 8 bytes a chunk: 32 MiB at most. */
const MOST_CHUNKS = 2 ** 22;

/** Chunks that follow one another. */
export interface ChunkRun {
  readonly first: number;
  readonly count: number;
}

export class ChunkGeometry {
  /** Chunks; the last may be short. */
  readonly count: number;

  /**
   * @param size of the base image in bytes, as a server said. @throws Qcow2Error `BAD_ARGUMENT` for a chunk size that is none, `LIMIT` for
   * a size that no base image has.
   */
  constructor(
    readonly size: number,
    readonly chunkBytes: number,
  ) {
    checkChunkBytes(chunkBytes);
    const most = MOST_CHUNKS * chunkBytes;
    if (!Number.isSafeInteger(size) || size < 1 || size > most) {
      throw new Qcow2Error(
        'LIMIT',
        `the base image has ${size} bytes; with chunks of ${chunkBytes} bytes it is 1 to ${most}`,
      );
    }
    this.count = divideUp(size, chunkBytes);
  }

  indexAt(offset: number): number {
    return Math.floor(offset / this.chunkBytes);
  }

  start(index: number): number {
    return index * this.chunkBytes;
  }

  /** Bytes of a chunk. */
  length(index: number): number {
    return Math.min(this.chunkBytes, this.size - index * this.chunkBytes);
  }

  /** The chunks that hold bytes of a range, in order; what lies past the end has none. */
  chunksOf(offset: number, length: number): ChunkRun {
    const end = Math.min(offset + length, this.size);
    if (offset >= end) return { first: 0, count: 0 };
    const first = this.indexAt(offset);
    return { first, count: this.indexAt(end - 1) + 1 - first };
  }
}

/** @throws Qcow2Error `BAD_ARGUMENT` unless it is a power of two from 64 KiB to 4 MiB. */
export function checkChunkBytes(chunkBytes: number): void {
  if (isPowerOfTwo(chunkBytes) && chunkBytes >= SMALLEST_CHUNK_BYTES && chunkBytes <= LARGEST_CHUNK_BYTES) return;
  throw new Qcow2Error(
    'BAD_ARGUMENT',
    `chunks of ${chunkBytes} bytes: a power of two from ${SMALLEST_CHUNK_BYTES} to ${LARGEST_CHUNK_BYTES} is needed`,
  );
}

/** `indices` cut, in their order, where one does not follow the one before, and after `longest`. */
export function runsOf(indices: Iterable<number>, longest: number): ChunkRun[] {
  const runs: { first: number; count: number }[] = [];
  for (const index of indices) {
    const last = runs.at(-1);
    if (last !== undefined && index === last.first + last.count && last.count < longest) last.count++;
    else runs.push({ first: index, count: 1 });
  }
  return runs;
}

export function indicesOf({ first, count }: ChunkRun): number[] {
  return Array.from({ length: count }, (_, index) => first + index);
}
