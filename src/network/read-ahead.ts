/**
 * What a guest that reads on will want next. A run of reads, each beginning where the one before ended, opens a window that doubles with
 * every read; a read elsewhere closes it. So a file that is read through waits for the network a few times only, and single reads,
 * which are most of a boot's in number, fetch nothing that nobody asked for.
 */
import type { ChunkGeometry, ChunkRun } from './chunk-geometry.js';

/** Of the window. */
const WIDEST_BYTES = 2 * 1024 * 1024;

export class ReadAhead {
  readonly #geometry: ChunkGeometry;
  readonly #widest: number;
  #last = { offset: -1, end: -1 };
  /** Chunks. */
  #window = 0;

  constructor(geometry: ChunkGeometry) {
    this.#geometry = geometry;
    this.#widest = Math.max(1, WIDEST_BYTES / geometry.chunkBytes);
  }

  /** Told of each read; the chunks to fetch behind it. */
  after(offset: number, length: number): ChunkRun {
    const { geometry, last } = { geometry: this.#geometry, last: this.#last };
    const end = offset + length;
    // An operation that faulted reads the same once more.
    if (offset !== last.offset || end !== last.end) {
      if (offset === last.end) this.#window = Math.min(this.#widest, Math.max(1, 2 * this.#window));
      else if (Math.abs(offset - last.end) > geometry.chunkBytes) this.#window = 0;
      this.#last = { offset, end };
    }
    return geometry.chunksOf(nextChunkStart(end, geometry), this.#window * geometry.chunkBytes);
  }
}

function nextChunkStart(end: number, { chunkBytes }: ChunkGeometry): number {
  return Math.ceil(end / chunkBytes) * chunkBytes;
}
