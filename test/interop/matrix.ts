/**
 * The interop matrix: every shape of image `qemu-img create` makes, written in turns by QEMU and by us.
 *
 * One test file per cluster size calls `describeMatrix`, so that the runner can share the work out. A cell does:
 *   create (by qemu-img or by us) -> we write -> QEMU checks and reads -> QEMU writes -> we read -> and so on (`ROUNDS`) -> we write.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import { roundsOfThisRun } from '../support/campaign.js';
import { SeededRandom, seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { createOurs, withOurs } from './our-image.js';
import { expectCleanCheck, qemuBytes, qemuCreate, qemuImg, qemuIo, type ImageFormat } from './qemu.js';
import { Turns } from './turns.js';

const MEBIBYTE = 0x10_0000;

/** Disk sizes by cluster size: small, and never a whole number of clusters (except that a sector is one at 512). */
const DISK_SIZES: Readonly<Record<number, number>> = {
  512: 4 * MEBIBYTE + 1536,
  4096: 5 * MEBIBYTE + 512,
  65536: 8 * MEBIBYTE + 1536,
  [2 * MEBIBYTE]: 16 * MEBIBYTE + 512,
};

interface Cell {
  readonly version: 2 | 3;
  readonly clusterSize: number;
  readonly refcountBits: 1 | 2 | 4 | 8 | 16 | 32 | 64;
  readonly backing: { readonly format: ImageFormat; readonly length: 'shorter' | 'longer' } | null;
  readonly creator: 'qemu-img' | 'us';
}

interface Backing {
  readonly name: string;
  readonly format: ImageFormat;
  readonly bytes: Uint8Array;
}

const REFCOUNT_BITS = [1, 2, 4, 8, 16, 32, 64] as const;
const OPERATIONS_PER_TURN = 40;
const QEMU_READS_PER_TURN = 12;
/** Of us and QEMU, in turns. */
const ROUNDS = roundsOfThisRun(1);

function* cellsOf(clusterSize: number): Generator<Cell> {
  for (const version of [2, 3] as const) {
    for (const refcountBits of version === 2 ? ([16] as const) : REFCOUNT_BITS) {
      for (const format of [null, 'qcow2', 'raw'] as const) {
        // The creator alternates with the length of the backing file, and the other way round at the next width.
        for (const creator of ['qemu-img', 'us'] as const) {
          const flipped = Math.log2(refcountBits) % 2 === 1;
          const length = (creator === 'us') === flipped ? ('shorter' as const) : ('longer' as const);
          yield { version, clusterSize, refcountBits, creator, backing: format ? { format, length } : null };
        }
      }
    }
  }
}

function titleOf({ version, refcountBits, backing, creator }: Cell): string {
  const over = backing ? `over a ${backing.length} ${backing.format} backing file` : 'without a backing file';
  return `version ${version}, refcounts of ${refcountBits} bits, ${over}, made by ${creator}`;
}

/** Makes one backing file, written by QEMU up to its last byte, with holes. */
function makeBacking(path: string, format: ImageFormat, size: number, random: SeededRandom): Backing {
  qemuImg('create', '-q', '-f', format, path, String(size));
  const turns = new Turns({ size, clusterSize: 65536, version: 3 }, random);
  const commands = format === 'qcow2' ? turns.qemuCommands(30) : [];
  for (let index = 0; index < 20; index++) {
    const length = random.between(1, 0x20000);
    const offset = index === 0 ? size - length : random.below(size - length);
    const pattern = random.between(1, 255);
    turns.model.write(offset, new Uint8Array(length).fill(pattern));
    commands.push(`write -P ${pattern} ${offset} ${length}`);
  }
  qemuIo(path, commands, { format });
  return { name: path, format, bytes: turns.model.bytes };
}

function create(path: string, cell: Cell, size: number, backing: Backing | undefined): void {
  const { version, clusterSize, refcountBits } = cell;
  const below = backing ? { backing: { name: backing.name, format: backing.format } } : {};
  if (cell.creator === 'us') {
    createOurs(path, { size, version, clusterSize, refcountBits, ...below });
    return;
  }
  const compat = version === 2 ? '0.10' : '1.1';
  qemuCreate(path, { size, options: { compat, cluster_size: clusterSize, refcount_bits: refcountBits }, ...below });
}

async function playCell(path: string, cell: Cell, backing: Backing | undefined, random: SeededRandom): Promise<void> {
  const { clusterSize, version } = cell;
  const size = DISK_SIZES[clusterSize] ?? 4 * MEBIBYTE;
  create(path, cell, size, backing);
  expectCleanCheck(path, 'of the new image');
  const turns = new Turns({ size, clusterSize, version, backing: backing?.bytes }, random);
  for (let round = 1; round <= ROUNDS; round++) {
    await withOurs(path, (image) => turns.ours(image, OPERATIONS_PER_TURN));
    expectCleanCheck(path, `after our turn ${round}`);
    expectSameBytes(qemuBytes(path), turns.model.bytes, `what QEMU reads after our turn ${round}`);

    qemuIo(path, [...turns.qemuReads(QEMU_READS_PER_TURN), ...turns.qemuCommands(OPERATIONS_PER_TURN)]);
    const ours = await withOurs(path, (image) => readWhole(image), { readOnly: true });
    expectSameBytes(ours, turns.model.bytes, `what we read after QEMU's turn ${round}`);
  }
  await withOurs(path, (image) => turns.ours(image, 5));
  expectCleanCheck(path, 'at the end');
}

export function describeMatrix(clusterSize: number): void {
  describe(`an image with clusters of ${clusterSize} bytes, written in turns by QEMU and by us`, () => {
    const directory = mkdtempSync(join(tmpdir(), 'qcow2-wasm-matrix-'));
    const backings = new Map<string, Backing>();

    beforeAll(() => {
      const random = new SeededRandom(seedOfThisRun(clusterSize));
      const size = DISK_SIZES[clusterSize] ?? 4 * MEBIBYTE;
      for (const format of ['qcow2', 'raw'] as const) {
        for (const [length, share] of [
          ['shorter', 0.61],
          ['longer', 1.3],
        ] as const) {
          const backingSize = Math.floor((size * share) / 512) * 512;
          const path = join(directory, `${length}.${format}`);
          backings.set(`${length} ${format}`, makeBacking(path, format, backingSize, random));
        }
      }
    });
    afterAll(() => rmSync(directory, { recursive: true, force: true }));

    let salt = clusterSize;
    for (const cell of cellsOf(clusterSize)) {
      const seed = seedOfThisRun(++salt);
      const title = titleOf(cell);
      it(title, async () => {
        const backing = cell.backing ? backings.get(`${cell.backing.length} ${cell.backing.format}`) : undefined;
        const path = join(directory, `cell-${seed}.qcow2`);
        await withSeed(title, seed, (random) => playCell(path, cell, backing, random));
        rmSync(path);
      });
    }
  });
}
