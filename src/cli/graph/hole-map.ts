/**
 * Hole map: where a file of the host has room of its own, and where it has holes, which read as zeroes. Node can't ask for it
 * (`SEEK_HOLE`); `filefrag` of e2fsprogs can. Where there is none, or the file system does not tell, all of the file is data.
 *
 * Asked for when it is needed, and again after a change.
 */
import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';

/** The unit of `Stats.blocks`, and of the output asked for. */
const BLOCK_BYTES = 512;

interface Run {
  readonly start: number;
  readonly end: number;
}

export class HoleMap {
  readonly #path: string;
  /** The runs of data, in order; null when it is not known. */
  #runs: readonly Run[] | null = null;

  constructor(path: string) {
    this.#path = path;
  }

  /** After a change of the file. */
  forget(): void {
    this.#runs = null;
  }

  /** How far what is at `offset` goes on: at most `length` bytes, inside the file. */
  runAt(offset: number, length: number): { readonly data: boolean; readonly length: number } {
    this.#runs ??= readRuns(this.#path);
    const runs = this.#runs;
    let low = 0;
    for (let high = runs.length; low < high;) {
      const middle = (low + high) >>> 1;
      if (runs[middle]!.end <= offset) low = middle + 1;
      else high = middle;
    }
    const next = runs[low];
    if (next === undefined) return { data: false, length };
    const data = next.start <= offset;
    return { data, length: Math.min(length, (data ? next.end : next.start) - offset) };
  }
}

function readRuns(path: string): readonly Run[] {
  const { size, blocks } = statSync(path);
  const whole = [{ start: 0, end: Infinity }];
  if (blocks * BLOCK_BYTES >= size) return whole;
  if (blocks === 0) return [];
  const { status, stdout } = spawnSync('filefrag', ['-s', '-e', `-b${BLOCK_BYTES}`, path], {
    stdio: ['ignore', 'pipe', 'ignore'],
    encoding: 'utf8',
    maxBuffer: Infinity,
    // Of the super user's programs, which others may use as well.
    env: { ...process.env, LC_ALL: 'C', PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` },
  });
  return status === 0 ? runsOf(stdout) : whole;
}

/** Lines like `0:     1952..    1959:  176514976.. 176514983:      8:       1952: last`; what is reserved only reads as zeroes. */
function runsOf(output: string): Run[] {
  const runs: { start: number; end: number }[] = [];
  for (const [, first, last, flags] of output.matchAll(/^\s*\d+:\s*(\d+)\.\.\s*(\d+):.*:([^:]*)$/gm)) {
    if (flags!.includes('unwritten')) continue;
    const start = Number(first) * BLOCK_BYTES;
    const end = (Number(last) + 1) * BLOCK_BYTES;
    const before = runs.at(-1);
    if (before?.end === start) before.end = end;
    else runs.push({ start, end });
  }
  return runs;
}
