/**
 * One test of QEMU's suite, run as the suite's own `check` does it, with our two programs in the place of QEMU's.
 *
 * The tests call the programs by the names QEMU's have, and know them, the folders and the format from their environment.
 * The suite's filters replace `qcow2` and other words wherever they stand, so the folders are in a temporary folder whose path
 * has none of them.
 */
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { ROOT } from './stale.mjs';

const TIME_LIMIT_MS = 600_000;

export class Iotests {
  #suite;
  #source;
  #scratch = mkdtempSync(join(tmpdir(), 'iotests-'));
  #running = new Set();
  #started = 0;

  /** @param source the top of the source tree that `provideSuite` returns */
  constructor(source) {
    this.#source = source;
    this.#suite = join(source, 'tests/qemu-iotests');
    this.#programs();
  }

  /** Ends what runs, and removes what it has made. */
  close() {
    for (const child of this.#running) kill(child);
    rmSync(this.#scratch, { recursive: true, force: true });
  }

  /** Runs the test. Resolves with null if it passed, else with why not. */
  async run(test) {
    const script = join(this.#suite, test);
    if (!existsSync(script)) return 'the suite has no such test';
    const folder = join(this.#scratch, String(++this.#started));
    const [images, sockets] = [join(folder, 't'), join(folder, 's')];
    mkdirSync(images, { recursive: true });
    mkdirSync(sockets);
    const output = join(folder, 'out');
    try {
      const ended = await this.#spawn(script, { output, env: this.#environment(images, sockets) });
      if (ended !== 'exit status 0') return ended;
      const notRun = join(images, `${basename(test)}.notrun`);
      if (existsSync(notRun)) return `did not run: ${readFileSync(notRun, 'utf8').trim()}`;
      return differenceBetween(this.#reference(script), readFileSync(output, 'utf8'));
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  #spawn(script, { output, env }) {
    const isPython = readFileSync(script, 'utf8').startsWith('#!/usr/bin/env python3');
    const descriptor = openSync(output, 'w');
    const options = { cwd: dirname(script), env, stdio: ['ignore', descriptor, descriptor], detached: true };
    const child = isPython ? spawn('python3', [script], options) : spawn('bash', [script], options);
    closeSync(descriptor);
    this.#running.add(child);
    return new Promise((resolve) => {
      let late = false;
      const timer = setTimeout(() => {
        late = true;
        kill(child);
      }, TIME_LIMIT_MS);
      const end = (how) => {
        clearTimeout(timer);
        this.#running.delete(child);
        kill(child);
        resolve(late ? `took longer than ${TIME_LIMIT_MS / 1000} s` : how);
      };
      child.on('error', ({ message }) => end(message));
      child.on('exit', (status, signal) => end(signal === null ? `exit status ${status}` : `ended by ${signal}`));
    });
  }

  /** The output that is right: for this format, for this kind of machine, or for all. */
  #reference(script) {
    const names = [`${script}.out.qcow2`, `${script}.pc.out`, `${script}.out`];
    return readFileSync(names.find((name) => existsSync(name)) ?? `${script}.out`, 'utf8');
  }

  /**
   * Our programs under the names that the tests use, copied, so that a build meanwhile changes nothing; and one in the place of all
   * that is not here.
   */
  #programs() {
    const copy = join(this.#scratch, 'cli');
    cpSync(join(ROOT, 'dist/cli'), copy, { recursive: true });
    writeFileSync(join(copy, 'package.json'), '{"type":"module"}');
    for (const [name, ours] of Object.entries({ 'qemu-img': 'qcow2-img', 'qemu-io': 'qcow2-io' })) {
      this.#install(name, `exec ${quoted(process.execPath)} ${quoted(join(copy, `${ours}.js`))} "$@"`);
    }
    const { stdout } = spawnSync(join(this.#scratch, 'qemu-img'), ['--help'], { encoding: 'utf8' });
    const formats = /^Supported formats:(.*)$/m.exec(stdout)?.[1] ?? '';
    // Tests ask the emulator which formats there are; and those in Python all ask for a disk, also where they start no machine.
    const lines = [
      'case "$*" in',
      `*format=help*) echo "Supported formats:${formats}"; echo "Supported formats (read-only):${formats}" ;;`,
      '*"-device help"*) echo virtio-blk ;;',
      '*) echo "$(basename "$0") is not here" >&2; exit 99 ;;',
      'esac',
    ];
    this.#install('absent', lines.join('\n'));
  }

  #install(name, script) {
    const path = join(this.#scratch, name);
    writeFileSync(path, `#!/bin/sh\n${script}\n`);
    chmodSync(path, 0o755);
  }

  #environment(images, sockets) {
    const absent = join(this.#scratch, 'absent');
    const { HOME, PATH, USER } = process.env;
    return {
      ...{ HOME, PATH, USER, LANG: 'C', LC_ALL: 'C', TMPDIR: images },
      PYTHON: 'python3',
      PYTHONDONTWRITEBYTECODE: '1',
      PYTHONPATH: `${this.#suite}:${join(this.#source, 'python')}`,
      TEST_DIR: images,
      SOCK_DIR: sockets,
      SAMPLE_IMG_DIR: join(this.#suite, 'sample_images'),
      QEMU_IMG_PROG: join(this.#scratch, 'qemu-img'),
      QEMU_IO_PROG: join(this.#scratch, 'qemu-io'),
      ...{ QEMU_PROG: absent, QEMU_NBD_PROG: absent, QSD_PROG: absent },
      ...{ QEMU_OPTIONS: '', QEMU_DEFAULT_MACHINE: 'pc' },
      QEMU_IO_OPTIONS: '--cache writeback --aio threads -f qcow2',
      QEMU_IO_OPTIONS_NO_FMT: '--cache writeback --aio threads',
      ...{ CACHEMODE: 'writeback', CACHEMODE_IS_DEFAULT: 'true', AIOMODE: 'threads' },
      ...{ IMGFMT: 'qcow2', IMGFMT_GENERIC: 'true', IMGPROTO: 'file', IMGOPTSSYNTAX: 'false' },
    };
  }
}

/** The child and what it has started: it is the leader of a group of its own. */
function kill(child) {
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // There is nobody left.
  }
}

function quoted(text) {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/** Null where the texts are the same but for blanks at the ends of lines; else the first line that is not. */
function differenceBetween(expected, actual) {
  const lines = (text) =>
    text
      .trimEnd()
      .split('\n')
      .map((line) => line.trimEnd());
  const [wanted, got] = [lines(expected), lines(actual)];
  const at = wanted.findIndex((line, index) => line !== got[index]);
  if (at < 0 && got.length === wanted.length) return null;
  const line = at < 0 ? wanted.length : at;
  const show = (text) => (text === undefined ? 'the end' : JSON.stringify(text));
  return `line ${line + 1} is ${show(got[line])}, not ${show(wanted[line])}`;
}
