/**
 * The outside judge: qemu-img and qemu-io as functions.
 *
 * A missing tool fails the test with a plain message, it never skips it. qemu-io takes many commands in one process,
 * so a turn of a hundred writes costs one start of a program.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export type ImageFormat = 'qcow2' | 'raw';

/** What `qemu-img check` counted. */
export interface CheckReport {
  readonly leaks: number;
  readonly corruptions: number;
  readonly checkErrors: number;
}

interface Finished {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * QEMU measures its key derivation by the processor time of its thread, and gives up where the clock of that does not move evenly.
 * That is this machine's doing, and no answer.
 */
const CLOCK_COMPLAINT = 'Unable to get accurate CPU usage';
const ATTEMPTS = 20;

/** Runs a command of QEMU again for as long as it only complains of the clock. One that is missing has no `stderr`. */
export function patiently<T extends { readonly stderr: string | null }>(command: () => T): T {
  for (let attempt = 1; ; attempt++) {
    const done = command();
    if (attempt === ATTEMPTS || !done.stderr?.includes(CLOCK_COMPLAINT)) return done;
  }
}

function run(tool: 'qemu-img' | 'qemu-io', args: readonly string[]): Finished {
  const done = patiently(() => spawnSync(tool, args, { encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 }));
  if (done.error && 'code' in done.error && done.error.code === 'ENOENT') {
    throw new Error(`${tool} is missing; the interop tests need it (Debian: apt-get install qemu-utils)`);
  }
  if (done.error) throw done.error;
  return done;
}

/** Runs qemu-img, demands success, returns what it printed. */
export function qemuImg(...args: string[]): string {
  const done = run('qemu-img', args);
  if (done.status !== 0) {
    throw new Error(`qemu-img ${args.join(' ')} ended with ${done.status}: ${done.stderr}${done.stdout}`);
  }
  return done.stdout;
}

export interface QemuIoOptions {
  readonly format?: ImageFormat;
  readonly readOnly?: boolean;
}

/** Runs all `commands` in one qemu-io that lets discards through, and demands that each of them succeeds. */
export function qemuIo(path: string, commands: readonly string[], options: QemuIoOptions = {}): string {
  const flags = ['-f', options.format ?? 'qcow2', '-d', 'unmap', ...(options.readOnly ? ['-r'] : [])];
  const done = run('qemu-io', [...flags, ...commands.flatMap((command) => ['-c', command]), path]);
  const complaint = /^.*(?:failed|error|invalid|not ).*$/im.exec(done.stdout + done.stderr);
  if (done.status !== 0 || complaint) {
    throw new Error(`qemu-io ended with ${done.status}: ${complaint?.[0] ?? done.stderr}`);
  }
  return done.stdout;
}

export interface CreateImage {
  readonly size: number;
  /** `-o` options as qemu-img names them: `cluster_size`, `refcount_bits`, `compat`, `preallocation` ... */
  readonly options?: Readonly<Record<string, string | number>>;
  readonly backing?: { readonly name: string; readonly format: ImageFormat } | undefined;
}

export function qemuCreate(path: string, { size, options = {}, backing }: CreateImage): void {
  const list = Object.entries(options).map(([name, value]) => `${name}=${value}`);
  const under = backing ? ['-b', backing.name, '-F', backing.format] : [];
  qemuImg('create', '-q', '-f', 'qcow2', ...(list.length ? ['-o', list.join(',')] : []), ...under, path, String(size));
}

/** `qemu-img check`: what is wrong is counted, not thrown. `repair` is `-r`. */
export function qemuCheck(path: string, repair?: 'leaks' | 'all'): CheckReport & { readonly output: string } {
  return checkReportOf(['-f', 'qcow2', ...(repair ? ['-r', repair] : []), path]);
}

/** What `qemu-img check` with these arguments says. */
export function checkReportOf(args: readonly string[]): CheckReport & { readonly output: string } {
  const { status, stdout, stderr } = run('qemu-img', ['check', '--output=json', ...args]);
  // 0 clean, 2 corruptions, 3 leaks; all else means that there was no check.
  if (status !== 0 && status !== 2 && status !== 3) {
    throw new Error(`qemu-img check ended with ${status}: ${stderr}${stdout}`);
  }
  const count = (name: string): number => Number(new RegExp(`"${name}": (\\d+)`).exec(stdout)?.[1] ?? 0);
  const report = { leaks: count('leaks'), corruptions: count('corruptions'), checkErrors: count('check-errors') };
  return { ...report, output: (stderr + stdout).slice(0, 2000) };
}

/** Demands that qemu-img finds nothing at all: no leak, no corruption. */
export function expectCleanCheck(path: string, when = ''): void {
  const { leaks, corruptions, checkErrors, output } = qemuCheck(path);
  if (leaks + corruptions + checkErrors > 0) {
    throw new Error(`qemu-img check ${when}: ${leaks} leaks, ${corruptions} corruptions\n${output}`);
  }
}

/** `qemu-img info` of this image alone, as the parsed JSON. */
export function qemuInfo(path: string): Readonly<Record<string, unknown>> {
  const info: unknown = JSON.parse(qemuImg('info', '--output=json', '-f', 'qcow2', path));
  if (typeof info !== 'object' || info === null) throw new Error('qemu-img info printed no object');
  return { ...info };
}

/** One extent of `qemu-img map`. */
export interface MapEntry {
  readonly start: number;
  readonly length: number;
  readonly depth: number;
  readonly zero: boolean;
  readonly data: boolean;
  readonly offset?: number;
}

export function qemuMap(path: string): readonly MapEntry[] {
  return JSON.parse(qemuImg('map', '--output=json', '-f', 'qcow2', path)) as readonly MapEntry[];
}

/** What QEMU reads: the whole image as bytes, its backing chain included. `snapshot` names an internal snapshot. */
export function qemuBytes(path: string, options: { format?: ImageFormat; snapshot?: string } = {}): Uint8Array {
  const raw = `${path}.as-raw`;
  const source = options.snapshot === undefined ? [] : ['-l', `snapshot.name=${options.snapshot}`];
  qemuImg('convert', '-f', options.format ?? 'qcow2', '-O', 'raw', ...source, path, raw);
  try {
    return new Uint8Array(readFileSync(raw));
  } finally {
    rmSync(raw);
  }
}

/** A directory of its own for one test; gone when `body` ends, however it ends. */
export async function inTemporaryDirectory<T>(body: (path: (name: string) => string) => T | Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'qcow2-wasm-'));
  try {
    return await body((name) => join(directory, name));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
