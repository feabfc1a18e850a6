/**
 * The newer features of the format, in turns with QEMU: extended L2 entries, external data files, compressed writes of
 * both types, alone and together.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, it } from 'vitest';
import type { Qcow2Image } from '../../src/index.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';
import { withOurs } from './our-image.js';
import { expectCleanCheck, qemuBytes, qemuImg, qemuIo } from './qemu.js';
import { Turns } from './turns.js';

interface Case {
  readonly title: string;
  readonly clusterSize: number;
  /** For `qemu-img create -o`; `DIR` stands for the test's folder. */
  readonly options: string;
  readonly backing?: 'qcow2' | 'raw';
  /** Nothing can be compressed with an external data file. */
  readonly dataFile?: 'plain' | 'raw';
}

const KIBIBYTE = 1024;
const CASES: readonly Case[] = [
  { title: 'extended L2 entries, clusters of 16 KiB', clusterSize: 16 * KIBIBYTE, options: 'extended_l2=on' },
  { title: 'extended L2 entries', clusterSize: 64 * KIBIBYTE, options: 'extended_l2=on' },
  { title: 'extended L2 entries, clusters of 2 MiB', clusterSize: 2048 * KIBIBYTE, options: 'extended_l2=on' },
  { title: 'extended L2 over raw', clusterSize: 64 * KIBIBYTE, options: 'extended_l2=on', backing: 'raw' },
  { title: 'extended L2 over qcow2', clusterSize: 32 * KIBIBYTE, options: 'extended_l2=on', backing: 'qcow2' },
  { title: 'extended L2, refcounts of 1 bit', clusterSize: 16 * KIBIBYTE, options: 'extended_l2=on,refcount_bits=1' },
  { title: 'a data file', clusterSize: 64 * KIBIBYTE, options: 'data_file=DIR/data', dataFile: 'plain' },
  {
    title: 'a data file over raw',
    clusterSize: 4096,
    options: 'data_file=DIR/data',
    dataFile: 'plain',
    backing: 'raw',
  },
  {
    title: 'a raw data file',
    clusterSize: 64 * KIBIBYTE,
    options: 'data_file=DIR/data,data_file_raw=on',
    dataFile: 'raw',
  },
  {
    title: 'a data file and extended L2 entries',
    clusterSize: 64 * KIBIBYTE,
    options: 'data_file=DIR/data,extended_l2=on',
    dataFile: 'plain',
  },
  { title: 'zstd', clusterSize: 64 * KIBIBYTE, options: 'compression_type=zstd' },
  { title: 'zstd, small clusters', clusterSize: 512, options: 'compression_type=zstd' },
  { title: 'zstd and extended L2', clusterSize: 64 * KIBIBYTE, options: 'compression_type=zstd,extended_l2=on' },
  { title: 'compressed in clusters of 512 bytes', clusterSize: 512, options: 'refcount_bits=2' },
  { title: 'compressed in clusters of 2 MiB', clusterSize: 2048 * KIBIBYTE, options: 'refcount_bits=1' },
];

const directory = mkdtempSync(join(tmpdir(), 'qcow2-wasm-features-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Some random operations of ours, and some clusters written compressed among them. */
function ourTurn(image: Qcow2Image, turns: Turns, compress: boolean): void {
  for (let round = 0; round < 6; round++) {
    turns.ours(image, 8);
    if (compress) turns.oursCompressed(image, 1);
  }
}

function makeBacking(path: string, format: string, size: number, random: SeededRandom): Uint8Array {
  qemuImg('create', '-q', '-f', format, path, String(size));
  const bytes = new Uint8Array(size);
  const commands: string[] = [];
  for (let index = 0; index < 30; index++) {
    const length = random.between(1, 100_000);
    const offset = random.below(size - length);
    const pattern = random.between(1, 255);
    bytes.fill(pattern, offset, offset + length);
    commands.push(`write -P ${pattern} ${offset} ${length}`);
  }
  qemuIo(path, commands, { format: format as 'raw' });
  return bytes;
}

async function play(example: Case, random: SeededRandom): Promise<void> {
  const { clusterSize, backing, dataFile } = example;
  const size = clusterSize > 1_000_000 ? 12 * 1024 * KIBIBYTE + 512 : 3 * 1024 * KIBIBYTE + 1536;
  const path = join(directory, 'image.qcow2');
  const below = join(directory, `below.${backing}`);
  const bytes = backing && makeBacking(below, backing, size - 300 * 512, random);
  const options = `${example.options.replaceAll('DIR', directory)},cluster_size=${clusterSize}`;
  const over = backing ? ['-b', below, '-F', backing] : [];
  qemuImg('create', '-q', '-f', 'qcow2', '-o', options, ...over, path, String(size));

  const turns = new Turns({ size, clusterSize, version: 3, backing: bytes }, random);
  for (const round of [1, 2, 3]) {
    await withOurs(path, (image) => ourTurn(image, turns, !dataFile));
    expectCleanCheck(path, `after our turn ${round}`);
    expectSameBytes(qemuBytes(path), turns.model.bytes, `what QEMU reads after our turn ${round}`);
    if (dataFile === 'raw') {
      // QEMU makes the file a whole number of clusters.
      const raw = readFileSync(join(directory, 'data')).subarray(0, size);
      expectSameBytes(raw, turns.model.bytes, `the raw data file after turn ${round}`);
    }
    qemuIo(path, turns.qemuCommands(30, { compress: !dataFile }));
    const ours = await withOurs(path, (image) => readWhole(image), { readOnly: true });
    expectSameBytes(ours, turns.model.bytes, `what we read after QEMU's turn ${round}`);
  }
}

describe('an image with newer features, written in turns by QEMU and by us', () => {
  CASES.forEach((example, index) => {
    it(example.title, async () => {
      await withSeed(example.title, seedOfThisRun(7000 + index), (random) => play(example, random));
    });
  });
});
