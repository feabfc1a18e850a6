/**
 * Hole map: where a file of the host has room of its own, and where it has holes, which read as zeroes. Node can't ask for it
 * (`SEEK_HOLE`); `filefrag` of e2fsprogs can. Where there is none, or the file system does not tell, all of the file is data. That it
 * has no blocks says nothing: small content may lie in the inode, and new content nowhere yet.
 *
 * Asked for when it is needed, and again after a change.
 */
import { spawnSync } from 'node:child_process';
import { fstatSync } from 'node:fs';

/** The unit of `Stats.blocks`, and of the output asked for. */
const BLOCK_BYTES = 512;

interface Run {
  readonly start: number;
  readonly end: number;
}

export class HoleMap {
  /** The runs of data, in order; null when it is not known. */
  #runs: readonly Run[] | null = null;

  /** After a change of the file. */
  forget(): void {
    this.#runs = null;
  }

  /** How far what is at `offset` of the open file goes on: at most `length` bytes, inside the file. */
  runAt(
    descriptor: number,
    { offset, length }: { readonly offset: number; readonly length: number },
  ): { readonly data: boolean; readonly length: number } {
    this.#runs ??= readRuns(descriptor);
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

const ALL_DATA: readonly Run[] = [{ start: 0, end: Infinity }];

function readRuns(descriptor: number): readonly Run[] {
  const { size, blocks } = fstatSync(descriptor);
  if (blocks * BLOCK_BYTES >= size) return ALL_DATA;
  const { status, stdout } = spawnSync('filefrag', ['-s', '-e', `-b${BLOCK_BYTES}`, '/proc/self/fd/0'], {
    // The child gets the open file as its standard input: the path may be another file's by now.
    stdio: [descriptor, 'pipe', 'ignore'],
    encoding: 'utf8',
    maxBuffer: Infinity,
    // Of the super user's programs, which others may use as well.
    env: { ...process.env, LC_ALL: 'C', PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` },
  });
  return (status === 0 ? dataRuns(stdout) : null) ?? ALL_DATA;
}

const EXTENT_LINE = /^\s*\d+:\s*(\d+)\.\.\s*(\d+):.*:([^:]*)$/;

/**
 * The runs of data in what `filefrag` has printed: lines like `0:     1952..    1959:  176514976.. 176514983:      8:       1952: last`.
 * What is reserved only (`unwritten`) reads as zeroes. Null for an extent that does not tell its place in blocks.
 */
export function dataRuns(output: string): readonly Run[] | null {
  if (!/\d extents? found/.test(output)) return null;
  const runs: { start: number; end: number }[] = [];
  for (const line of output.split('\n')) {
    if (!/^\s*\d+:/.test(line)) continue;
    const [, first, last, flags = ''] = EXTENT_LINE.exec(line) ?? [];
    if (first === undefined || last === undefined || /inline|not_aligned|unaligned/.test(flags)) return null;
    if (flags.includes('unwritten')) continue;
    const start = Number(first) * BLOCK_BYTES;
    const end = (Number(last) + 1) * BLOCK_BYTES;
    const before = runs.at(-1);
    if (before?.end === start) before.end = end;
    else runs.push({ start, end });
  }
  return runs;
}
