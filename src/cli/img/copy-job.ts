/**
 * The copy that `convert` makes: from a source to a target that is open, leaving out what reads as zeroes anyway, and what the target's
 * backing file shows.
 */
import { isZero } from '../../util/bytes.js';
import { alignDown, divideUp } from '../../util/integers.js';
import type { BlockNode } from '../graph/block-node.js';
import { errorWords } from '../text/errno.js';
import { CliError, reportWarning } from '../text/messages.js';
import type { CommandContext } from './command.js';
import type { CopySource } from './copy-source.js';
import type { Progress } from './progress.js';
import { firstRun } from './sparse.js';

const SECTOR = 512;
/** Bytes of one read; a cluster of the target where that is more, up to the limit. */
const BUFFER_BYTES = 2 * 1024 * 1024;
/** Longest run that is treated as one. */
const MAX_REQUEST = 2 ** 31 - SECTOR;

export interface CopyOptions {
  readonly source: CopySource;
  readonly target: BlockNode;
  readonly compressed: boolean;
  /** Bytes; 0: everything is written. */
  readonly minSparse: number;
  /** Where nothing was written the target reads as zeroes. */
  readonly hasZeroInit: boolean;
  readonly targetHasBacking: boolean;
  /** Bytes of the target's backing file; null where it is not known, or of no use. */
  readonly backingSize: number | null;
  /** What can't be read is zeroes. */
  readonly salvage: boolean;
  readonly quiet: boolean;
  /** Bytes a second; 0 for no limit. */
  readonly rateLimit: number;
  readonly progress: Progress;
}

type Kind = 'data' | 'zero' | 'backing';

interface Piece {
  readonly offset: number;
  readonly length: number;
  readonly kind: Kind;
}

export class CopyJob {
  readonly #context: CommandContext;
  readonly #options: CopyOptions;
  readonly #clusterSize: number;
  readonly #bufferBytes: number;
  /** The status that was asked for last holds up to here. */
  #statusEnd = 0;
  #status: Kind = 'data';

  constructor(context: CommandContext, options: CopyOptions) {
    this.#context = context;
    this.#options = options;
    this.#clusterSize = options.target.image?.clusterSize ?? SECTOR;
    this.#bufferBytes = options.compressed ? this.#clusterSize : BUFFER_BYTES;
  }

  /** Rejects with what could not be read or written, and with `Interrupted`. */
  async run(): Promise<void> {
    const { progress, source, rateLimit } = this.#options;
    const total = this.#bytesToWrite();
    this.#statusEnd = 0;
    const started = performance.now();
    const { interrupts } = this.#context;
    interrupts.guard();
    let done = 0;
    for (let at = 0; at < source.size;) {
      const piece = this.#next(at);
      if (this.#isWritten(piece.kind)) {
        done += piece.length;
        progress.set((100 * done) / total);
      }
      this.#copy(piece);
      at += piece.length;
      await interrupts.hold(started, { bytes: done, rateLimit });
    }
  }

  #isWritten(kind: Kind): boolean {
    return kind === 'data' || (kind === 'zero' && this.#options.minSparse === 0);
  }

  #bytesToWrite(): number {
    const { source } = this.#options;
    let sum = 0;
    for (let at = 0; at < source.size;) {
      const { kind, length } = this.#next(at);
      if (this.#isWritten(kind)) sum += length;
      at += length;
    }
    return sum;
  }

  /** The piece at `offset`: of one kind, and short enough to be handled at once. */
  #next(offset: number): Piece {
    const { source, minSparse, compressed } = this.#options;
    const left = source.size - offset;
    if (this.#statusEnd <= offset) this.#askStatus(offset);
    let kind = this.#status;
    let length = Math.min(left, this.#statusEnd - offset);
    if (kind === 'data') length = Math.min(length, this.#bufferBytes);
    if (compressed) {
      // Compressed clusters are written whole.
      if (length < this.#clusterSize) {
        length = Math.min(this.#clusterSize, left);
        kind = 'data';
        this.#status = 'data';
      } else {
        length = alignDown(length, this.#clusterSize);
      }
    }
    if (kind === 'zero' && minSparse === 0) length = Math.min(length, this.#bufferBytes);
    return { offset, length, kind };
  }

  #askStatus(offset: number): void {
    const { source, targetHasBacking, backingSize } = this.#options;
    let most = Math.min(source.size - offset, MAX_REQUEST);
    const behindBacking = backingSize !== null && offset >= backingSize;
    if (backingSize !== null && !behindBacking) most = Math.min(most, backingSize - offset);
    const { length: exact, data, zero } = this.#statusOf(offset, most);
    let length = divideUp(exact, SECTOR) * SECTOR;
    const tail = (offset + length) % source.alignment;
    if (length > tail) length -= tail;
    if (zero) this.#status = behindBacking ? 'backing' : 'zero';
    else this.#status = data || !targetHasBacking ? 'data' : 'backing';
    this.#statusEnd = offset + length;
  }

  #statusOf(offset: number, most: number): { length: number; data: boolean; zero: boolean } {
    const { source, targetHasBacking, salvage, quiet } = this.#options;
    for (let length = most; ; length = Math.max(SECTOR, divideUp(length / SECTOR, 4) * SECTOR)) {
      try {
        return source.status(offset, length, targetHasBacking);
      } catch (error) {
        const message = `error while reading block status at offset ${offset}: ${errorWords(error).words}`;
        if (!salvage) throw new CliError(message, { cause: error });
        if (length > SECTOR) continue;
        if (!quiet) reportWarning(this.#context.console, message);
        return { length: SECTOR, data: true, zero: false };
      }
    }
  }

  #copy(piece: Piece): void {
    const { offset, length, kind } = piece;
    if (kind === 'backing') return;
    const bytes = new Uint8Array(this.#isWritten(kind) ? length : 0);
    if (kind === 'data') this.#read(offset, bytes);
    try {
      if (this.#isWritten(kind)) this.#writeData(offset, bytes);
      else this.#writeZeroes(offset, length);
    } catch (error) {
      throw new CliError(`error while writing at byte ${offset}: ${errorWords(error).words}`, { cause: error });
    }
  }

  #read(offset: number, bytes: Uint8Array): void {
    const { source, salvage } = this.#options;
    try {
      source.read(offset, bytes);
    } catch (error) {
      if (!salvage) {
        throw new CliError(`error while reading at byte ${offset}: ${errorWords(error).words}`, { cause: error });
      }
      for (let at = 0; at < bytes.length; at += SECTOR) this.#salvage(offset + at, bytes.subarray(at, at + SECTOR));
    }
  }

  #salvage(offset: number, sector: Uint8Array): void {
    try {
      this.#options.source.read(offset, sector);
    } catch (error) {
      sector.fill(0);
      if (this.#options.quiet) return;
      reportWarning(this.#context.console, `error while reading offset ${offset}: ${errorWords(error).words}`);
    }
  }

  #writeData(offset: number, bytes: Uint8Array): void {
    const { target, compressed, minSparse } = this.#options;
    if (compressed) {
      if (minSparse > 0 && isZero(bytes)) this.#writeZeroes(offset, bytes.length);
      else target.writeCompressed(offset, bytes);
      return;
    }
    if (minSparse === 0) {
      target.write(offset, bytes);
      return;
    }
    const min = minSparse / SECTOR;
    const rules = { min, alignment: 2 ** Math.floor(Math.log2(min)) };
    for (let at = 0; at < bytes.length;) {
      const { data, length } = firstRun(bytes.subarray(at), offset + at, rules);
      if (data) target.write(offset + at, bytes.subarray(at, at + length));
      else this.#writeZeroes(offset + at, length);
      at += length;
    }
  }

  #writeZeroes(offset: number, length: number): void {
    const { target, hasZeroInit } = this.#options;
    if (!hasZeroInit) target.writeZeroes(offset, length, { unmap: true });
  }
}
