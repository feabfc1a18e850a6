/**
 * Reading a whole LUKS image: aes-256, xts, plain64, clusters of 64 KiB, half a GiB of random data. It is converted to a raw file by
 *
 *   qemu-img convert
 *   ours, Node   `copyDisk` in Node, the blocks by `node:crypto` (`createNodeSectorCipher`)
 *   ours, WASM   `copyDisk` in Node, all by the WASM kernels
 *
 * Each is a process of its own, start and opening included, and what counts is its processor time, user and system. The key
 * derivation is the same for all, and the shortest that LUKS allows; what start and opening cost is measured on an empty
 * image. In each round all take turns; figures are medians, and so are the ratios within a round.
 */
import { spawnSync } from 'node:child_process';
import { randomFillSync } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  copyDisk,
  createImage,
  newEncryption,
  openChain,
  RawDisk,
  runToEnd,
  type UnlockOptions,
} from '../src/index.js';
import { createNodeSectorCipher, NodeFileStorage } from '../src/node.js';
import { markdownTable, median } from './compare.js';

const MEBIBYTE = 2 ** 20;
const DISK_BYTES = 512 * MEBIBYTE;
const ROUNDS = Number(process.env['ROUNDS'] ?? 5);
const PASSPHRASE = 'correct horse';

/** qemu-img times its key derivation, and gives up where the clock for that is coarse. That is no result, so it is asked again. */
const CLOCK_COMPLAINT = 'Unable to get accurate CPU usage';
const ATTEMPTS = 20;

interface Usage {
  readonly cpuSeconds: number;
  readonly wallSeconds: number;
}

interface Reader {
  readonly name: string;
  /** The command that converts the image at `image` to the raw file at `raw`. */
  command(image: string, raw: string): string[];
}

const READERS: readonly Reader[] = [
  { name: 'qemu-img convert', command: qemuCommand },
  { name: 'ours, Node', command: (image, raw) => ourCommand(image, raw, 'node') },
  { name: 'ours, WASM', command: (image, raw) => ourCommand(image, raw, 'wasm') },
];

export async function bench(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'qcow2-wasm-bench-'));
  try {
    const full = join(folder, 'full.qcow2');
    const empty = join(folder, 'empty.qcow2');
    await makeImage(full, DISK_BYTES);
    await makeImage(empty, 0);
    requireSameResults(full, folder);
    return report(measureRounds(full, folder), measureRounds(empty, folder));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** An encrypted image of which the first `dataBytes` are random. */
async function makeImage(path: string, dataBytes: number): Promise<void> {
  const tools: UnlockOptions = { createCipher: createNodeSectorCipher };
  const encryption = await newEncryption({ format: 'luks', passphrase: PASSPHRASE, iterTime: 0 }, tools);
  const storage = NodeFileStorage.open(path, { create: true });
  createImage(storage, { size: DISK_BYTES, encryption });
  const image = await openChain(storage, { encryption: encryption.opened });
  const piece = new Uint8Array(MEBIBYTE);
  for (let offset = 0; offset < dataBytes; offset += MEBIBYTE) image.write(offset, randomFillSync(piece));
  image.close();
}

function qemuCommand(image: string, raw: string): string[] {
  const secret = `secret,id=key,data=${PASSPHRASE}`;
  const source = `driver=qcow2,file.filename=${image},encrypt.key-secret=key`;
  return ['qemu-img', 'convert', '--object', secret, '--image-opts', source, '-O', 'raw', raw];
}

/** Runs `convertToRaw` of this module, as it was bundled. */
function ourCommand(image: string, raw: string, cipher: 'node' | 'wasm'): string[] {
  const call = `convertToRaw(${[image, raw, cipher].map((argument) => JSON.stringify(argument)).join(', ')})`;
  return [process.execPath, '--eval', `import(${JSON.stringify(import.meta.url)}).then((bench) => bench.${call})`];
}

export async function convertToRaw(image: string, raw: string, cipher: 'node' | 'wasm'): Promise<void> {
  const unlock = cipher === 'node' ? { createCipher: createNodeSectorCipher } : {};
  const storage = NodeFileStorage.open(image, { readOnly: true });
  const source = await openChain(storage, { readOnly: true, passphrase: PASSPHRASE, unlock });
  const file = NodeFileStorage.open(raw, { create: true });
  file.truncate(source.size);
  const target = new RawDisk(file);
  runToEnd(copyDisk(source, target));
  target.close();
  source.close();
}

/** All readers are asked once before they are timed, which also brings the image into the page cache. */
function requireSameResults(image: string, folder: string): void {
  const files = READERS.map((reader, index) => {
    const raw = join(folder, `${index}.raw`);
    run(reader.command(image, raw));
    return openSync(raw, 'r');
  });
  const pieces = files.map(() => Buffer.alloc(MEBIBYTE));
  for (let offset = 0; offset < DISK_BYTES; offset += MEBIBYTE) {
    files.forEach((file, index) => readSync(file, pieces[index]!, 0, MEBIBYTE, offset));
    const differing = pieces.findIndex((piece) => !piece.equals(pieces[0]!));
    if (differing > 0) throw new Error(`${READERS[differing]!.name} reads something else than ${READERS[0]!.name}`);
  }
  files.forEach((file, index) => {
    closeSync(file);
    rmSync(join(folder, `${index}.raw`));
  });
}

/** The usages of each reader, round by round. */
function measureRounds(image: string, folder: string): Usage[][] {
  const usages: Usage[][] = READERS.map(() => []);
  const raw = join(folder, 'out.raw');
  for (let round = 0; round < ROUNDS; round++) {
    READERS.forEach((_, turn) => {
      // Each round begins with another one, so that none always follows the same neighbour.
      const index = (turn + round) % READERS.length;
      usages[index]!.push(run(READERS[index]!.command(image, raw)));
      rmSync(raw);
    });
  }
  return usages;
}

/** Runs a command to its end. Its processor time is what the shell's `times` says of its children. */
function run(command: readonly string[]): Usage {
  for (let attempt = 1; ; attempt++) {
    const began = performance.now();
    const shell = ['-c', '"$@" >/dev/null || exit; times', 'sh', ...command];
    const { status, stdout, stderr } = spawnSync('sh', shell, { encoding: 'utf8' });
    const wallSeconds = (performance.now() - began) / 1000;
    if (status === 0) return { cpuSeconds: childrenSeconds(stdout), wallSeconds };
    if (!stderr.includes(CLOCK_COMPLAINT) || attempt === ATTEMPTS) throw new Error(`${command[0]}: ${stderr}`);
  }
}

/** The second line of `times`, as in `0m1.25s 0m0.5s`: user and system time of the children. */
function childrenSeconds(times: string): number {
  const [, line = ''] = times.trim().split('\n');
  const parts = [...line.matchAll(/(\d+)m([\d.]+)s/g)];
  if (parts.length !== 2) throw new Error(`the shell's times are ${JSON.stringify(times)}`);
  return parts.reduce((sum, [, minutes, seconds]) => sum + Number(minutes) * 60 + Number(seconds), 0);
}

function report(full: readonly Usage[][], empty: readonly Usage[][]): string {
  const rows = READERS.map(({ name }, index) => {
    const usages = full[index]!;
    const ratios = usages.map(({ cpuSeconds }, round) => cpuSeconds / full[0]![round]!.cpuSeconds);
    return [
      name,
      median(usages.map(({ cpuSeconds }) => cpuSeconds)).toFixed(2),
      median(ratios).toFixed(2),
      median(empty[index]!.map(({ cpuSeconds }) => cpuSeconds)).toFixed(2),
      median(usages.map(({ wallSeconds }) => wallSeconds)).toFixed(2),
    ];
  });
  const head = ['', 'processor, s', 'times qemu-img', 'of it start and opening, s', 'elapsed, s'];
  return markdownTable([head, ...rows]);
}
