/**
 * What a guest that reads on will want next: in a run of reads, each beginning where the one before ended, half as much as the run has read so
 * far. A read elsewhere ends the run. So a file that is read through waits for the network a few times only, short runs fetch nothing that
 * nobody asked for, and what is fetched in vain is at most half of what was of use (bench/README.md, "Chunks").
 */
import type { ChunkGeometry, ChunkRun } from './chunk-geometry.js';

const MOST_AHEAD_BYTES = 2 * 1024 * 1024;

export class ReadAhead {
  readonly #geometry: ChunkGeometry;
  #last = { offset: -1, end: -Infinity };
  /** Bytes that the run has read; one read is none yet. */
  #run = { bytes: 0, reads: 0 };

  constructor(geometry: ChunkGeometry) {
    this.#geometry = geometry;
  }

  /** Told of each read; the chunks to fetch behind it. */
  after(offset: number, length: number): ChunkRun {
    const { chunkBytes } = this.#geometry;
    const end = offset + length;
    // An operation that faulted reads the same once more.
    if (offset !== this.#last.offset || end !== this.#last.end) {
      const gap = Math.abs(offset - this.#last.end);
      if (gap === 0) this.#run = { bytes: this.#run.bytes + length, reads: this.#run.reads + 1 };
      else if (gap > chunkBytes) this.#run = { bytes: length, reads: 1 };
      this.#last = { offset, end };
    }
    const ahead = this.#run.reads > 1 ? Math.min(this.#run.bytes / 2, MOST_AHEAD_BYTES) : 0;
    const chunks = Math.floor(ahead / chunkBytes);
    return this.#geometry.chunksOf(nextChunkStart(end, this.#geometry), chunks * chunkBytes);
  }
}

function nextChunkStart(end: number, { chunkBytes }: ChunkGeometry): number {
  return Math.ceil(end / chunkBytes) * chunkBytes;
}
