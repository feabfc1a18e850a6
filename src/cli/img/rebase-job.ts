/** The work of a safe `rebase`: copies into the image what its new backing file does not have. */
import type { BlockNode } from '../graph/block-node.js';
import { chainStatus } from '../graph/chain-status.js';
import { errorWords } from '../text/errno.js';
import { CliError } from '../text/messages.js';
import type { CommandContext } from './command.js';
import type { Progress } from './progress.js';

const CHUNK = 2 * 1024 * 1024;
const SECTOR = 512;

export interface RebaseParts {
  readonly node: BlockNode;
  readonly old: BlockNode | null;
  readonly next: BlockNode | null;
  /** The new backing file where it is in the old chain: what lies between the two alone can differ. */
  readonly inChain: BlockNode | null;
  readonly progress: Progress;
}

export class RebaseJob {
  readonly #context: CommandContext;
  readonly #parts: RebaseParts;

  constructor(context: CommandContext, parts: RebaseParts) {
    this.#context = context;
    this.#parts = parts;
  }

  async run(): Promise<void> {
    const { node, progress } = this.#parts;
    const { interrupts } = this.#context;
    const step = 100 / Math.max(1, Math.floor(node.size / Math.min(node.size, CHUNK)));
    interrupts.guard();
    for (let at = 0; at < node.size;) {
      const { allocated, length } = node.status(at, Math.min(CHUNK, node.size - at));
      if (!allocated) {
        const handled = this.#keep(at, length);
        if (handled.copied) progress.add(step);
        at += handled.length;
      } else {
        at += length;
      }
      await interrupts.breathe();
    }
    node.flush();
  }

  /** Looks at the first of `length` bytes that the image leaves to its backing file. How many it has looked at. */
  #keep(at: number, length: number): { readonly length: number; readonly copied: boolean } {
    const { old, next, inChain } = this.#parts;
    let count = length;
    if (inChain !== null && old !== null && at < old.size && old !== inChain) {
      const status = chainStatus(old, { offset: at, length: Math.min(count, old.size - at) }, inChain);
      count = Math.min(count, status.length);
      if (!status.allocated) return { length: count, copied: false };
    } else if (inChain !== null && old === inChain && at < inChain.size) {
      return { length: Math.min(count, inChain.size - at), copied: false };
    }
    if (old !== null && at < old.size) count = Math.min(count, old.size - at);
    if (next !== null && at < next.size) count = Math.min(count, next.size - at);
    const before = contentOf(old, at, count, 'old');
    const after = contentOf(next, at, count, 'new');
    this.#writeDifferences(at, before, after);
    return { length: count, copied: true };
  }

  #writeDifferences(at: number, before: Uint8Array, after: Uint8Array): void {
    const { node, old } = this.#parts;
    const isZero = old === null || at >= old.size;
    for (let start = 0; start < before.length;) {
      const differs = sectorsDiffer(before, after, start);
      let end = start + SECTOR;
      while (end < before.length && sectorsDiffer(before, after, end) === differs) end += SECTOR;
      end = Math.min(end, before.length);
      try {
        if (differs && isZero) node.writeZeroes(at + start, end - start);
        else if (differs) node.write(at + start, before.subarray(start, end));
      } catch (error) {
        throw new CliError(`Error while writing to COW image: ${errorWords(error).words}`, { cause: error });
      }
      start = end;
    }
  }
}

/** What lies behind the end of a backing file, or is in none, reads as zeroes. */
function contentOf(node: BlockNode | null, at: number, length: number, which: 'old' | 'new'): Uint8Array {
  const bytes = new Uint8Array(length);
  if (node === null || at >= node.size) return bytes;
  try {
    node.read(at, bytes);
    return bytes;
  } catch (error) {
    throw new CliError(`error while reading from ${which} backing file`, { cause: error });
  }
}

function sectorsDiffer(one: Uint8Array, other: Uint8Array, start: number): boolean {
  return Buffer.compare(one.subarray(start, start + SECTOR), other.subarray(start, start + SECTOR)) !== 0;
}
