/**
 * The programs as they are shipped, each run a process of its own. They are built once for a test file, into a folder that is
 * gone after its last test.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { newDiskFolder } from './disk-folder.js';
import { buildPrograms } from '../../scripts/build.mjs';

export type ProgramName = 'qcow2-img' | 'qcow2-io';

export interface Ran {
  /** The exit code, or the signal that has ended the program. */
  readonly code: number | NodeJS.Signals;
  readonly out: string;
  readonly err: string;
}

/** The programs, and a folder to use them in that is empty at the start of each test. */
export interface Programs {
  readonly folder: string;
  path(name: string): string;
  run(program: ProgramName, ...args: readonly string[]): Ran;
  /** Runs it as a user who may read what there is, and write nothing. */
  runAsReader(program: ProgramName, ...args: readonly string[]): Ran;
  /** Runs a script of bash in which `$img` and `$io` start the programs. */
  shell(script: string): Ran;
  start(program: ProgramName, ...args: readonly string[]): ChildProcess;
}

/** Root may write everything, so it becomes somebody else first. */
const BECOME_NOBODY =
  'data:text/javascript,if(process.getuid()===0){process.setgroups([]);process.setgid(65534);process.setuid(65534)}';

/** To be called at the top of a test file. */
export function useBuiltPrograms(): Programs {
  const root = newDiskFolder('programs-');
  const folder = join(root, 'work');
  const file = (program: ProgramName) => join(root, 'cli', `${program}.js`);

  beforeAll(async () => {
    await buildPrograms({ outdir: join(root, 'cli') });
    writeFileSync(join(root, 'cli/package.json'), '{"type":"module"}');
    chmodSync(root, 0o755);
  });
  beforeEach(() => {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
  });
  afterAll(() => rmSync(root, { recursive: true }));

  const wait = (command: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): Ran => {
    const done = spawnSync(command, args, { cwd: folder, env, encoding: 'utf8', maxBuffer: 2 ** 26 });
    if (done.error) throw done.error;
    return { code: done.status ?? done.signal ?? -1, out: done.stdout, err: done.stderr };
  };
  return {
    folder,
    path: (name) => join(folder, name),
    run: (program, ...args) => wait(process.execPath, [file(program), ...args]),
    runAsReader: (program, ...args) => wait(process.execPath, ['--import', BECOME_NOBODY, file(program), ...args]),
    shell: (script) => {
      const command = (program: ProgramName) => `${process.execPath} ${file(program)}`;
      return wait('bash', ['-c', script], { ...process.env, img: command('qcow2-img'), io: command('qcow2-io') });
    },
    start: (program, ...args) => spawn(process.execPath, [file(program), ...args], { cwd: folder, stdio: 'ignore' }),
  };
}

/** How a started program ended: by its exit code, or by a signal. */
export async function endOf(child: ChildProcess): Promise<number | NodeJS.Signals> {
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  return code ?? signal ?? -1;
}
