/**
 * How long the programs take to start: from the shell's point of view, until they have ended.
 *
 * `node -e 0` is what Node costs alone, and `qemu-img --version` what the process and a program in C cost. Both programs are run
 * as they are shipped. In each round all take turns; figures are medians, and so are the ratios within a round.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { markdownTable, median } from './compare.js';

const ROUNDS = Number(process.env['ROUNDS'] ?? 21);

interface Start {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
}

export function bench(): string {
  const folder = mkdtempSync(join(tmpdir(), 'qcow2-wasm-bench-'));
  try {
    const image = join(folder, 'disk.qcow2');
    const starts = startsWith(image);
    spawnSync(process.execPath, ['dist/cli/qcow2-img.js', 'create', '-f', 'qcow2', image, '1G']);
    const times = starts.map(() => new Array<number>());
    for (let round = 0; round < ROUNDS; round++) {
      starts.forEach(({ command }, index) => times[index]?.push(millisecondsOf(command)));
    }
    return tableOf(starts, times);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function startsWith(image: string): Start[] {
  const ours = (program: string, ...args: string[]): Start => ({
    name: `\`${program} ${args.join(' ').replace(image, 'image')}\``,
    command: [process.execPath, `dist/cli/${program}.js`, ...args],
  });
  return [
    { name: '`node -e 0`', command: [process.execPath, '-e', '0'] },
    { name: '`qemu-img --version`', command: ['qemu-img', '--version'] },
    ours('qcow2-img', '--version'),
    ours('qcow2-img', 'info', image),
    ours('qcow2-img', 'check', image),
    ours('qcow2-io', '-c', 'quit'),
    ours('qcow2-io', '-c', 'read 0 512', image),
  ];
}

function millisecondsOf([program, ...args]: readonly [string, ...string[]]): number {
  const started = performance.now();
  const { status, error } = spawnSync(program, args, { stdio: 'ignore' });
  if (error !== undefined || status !== 0) throw new Error(`${program} ended with ${status}`, { cause: error });
  return performance.now() - started;
}

/** Each with what it takes, and how many times that of Node alone and of QEMU's program, which are the first two. */
function tableOf(starts: readonly Start[], times: readonly (readonly number[])[]): string {
  const timesOf = (own: readonly number[], peer: readonly number[] = []) =>
    median(own.map((time, round) => time / (peer[round] ?? time))).toFixed(2);
  const rows = starts.map(({ name }, index) => {
    const own = times[index] ?? [];
    return [name, median(own).toFixed(0), Math.min(...own).toFixed(0), timesOf(own, times[0]), timesOf(own, times[1])];
  });
  return markdownTable([['', 'ms', 'least', 'times `node -e 0`', 'times `qemu-img --version`'], ...rows]);
}
