/**
 * Exports of a disk that its guest goes on writing, against QEMU. A model keeps the disk; it is copied when the export begins.
 *
 * 1. The export reads as the disk did then, byte for byte, and so do its snapshots; an overlay does so over the same base.
 * 2. The disk reads as the guest has left it, and has the snapshots that it had, with no trace of the one that held the moment.
 * 3. qemu-img finds nothing wrong with either: no leak, no count that is off.
 */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  addBitmap,
  checkImage,
  createImage,
  createSnapshot,
  dirtyRanges,
  listBitmaps,
  listSnapshots,
  MemoryStorage,
  openChain,
  openImage,
  openSnapshot,
  RawDisk,
  runToEnd,
  type CreateOptions,
  type NewEncryption,
  type Qcow2Image,
} from '../../src/index.js';
import { NodeFileStorage } from '../../src/node.js';
import { takeMoment } from '../../src/operations/snapshots/export-moment.js';
import type { ExportContent } from '../../src/worker/export-content.js';
import { exportJob } from '../../src/worker/export-job.js';
import { readWhole } from '../support/disk-actions.js';
import { LUKS, PASSPHRASE, sharedEncryption } from '../support/encrypted-image.js';
import { expectSameBytes } from '../support/model-disk.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';
import { decryptedByQemu, qemuCheckWith } from './qemu-secrets.js';
import { expectCleanCheck, inTemporaryDirectory, qemuBytes, qemuImg, qemuInfo } from './qemu.js';
import { Turns } from './turns.js';

interface Shape {
  readonly title: string;
  readonly create: Partial<CreateOptions> & { readonly clusterSize: number };
  readonly backing?: boolean;
  readonly encrypted?: boolean;
}

const SHAPES: readonly Shape[] = [
  { title: 'clusters of 64 KiB', create: { clusterSize: 65536 } },
  { title: 'clusters of 4 KiB over a backing file', create: { clusterSize: 4096 }, backing: true },
  { title: 'version 2', create: { clusterSize: 4096, version: 2 } },
  { title: 'version 2 over a backing file', create: { clusterSize: 65536, version: 2 }, backing: true },
  { title: 'zstd over a backing file', create: { clusterSize: 16384, compressionType: 'zstd' }, backing: true },
  { title: 'extended L2 entries over a backing file', create: { clusterSize: 16384, extendedL2: true }, backing: true },
  { title: 'lazy refcounts', create: { clusterSize: 4096, lazyRefcounts: true } },
  { title: 'refcounts of 32 bits', create: { clusterSize: 4096, refcountBits: 32 }, backing: true },
  { title: 'LUKS over a backing file', create: { clusterSize: 4096 }, backing: true, encrypted: true },
];

/** Several steps of 2 MiB, and an end inside a cluster. */
const SIZE = 5 * 0x10_0000 + 1536;

interface Made {
  readonly file: string;
  readonly image: Qcow2Image;
  readonly turns: Turns;
  readonly encryption: NewEncryption | undefined;
  /** What each snapshot holds, by name. */
  readonly snapshots: Map<string, Uint8Array>;
}

async function make(path: (name: string) => string, shape: Shape, random: SeededRandom): Promise<Made> {
  const { create, backing = false, encrypted = false } = shape;
  const { clusterSize, version = 3 } = create;
  const base = backing ? random.bytes(SIZE - 70_000) : undefined;
  if (base !== undefined) writeFileSync(path('base.raw'), base);
  const encryption = encrypted ? await sharedEncryption({ ...LUKS, passphrase: PASSPHRASE }) : undefined;
  const storage = NodeFileStorage.open(path('disk.qcow2'), { create: true });
  const under = backing ? { backing: { name: path('base.raw'), format: 'raw' } as const } : {};
  createImage(storage, { size: SIZE, ...create, ...under, encryption });
  const below = base === undefined ? null : new RawDisk(new MemoryStorage(base.slice()));
  const image = openImage(storage, { backing: below, ...(encryption && { encryption: encryption.opened }) });
  const turns = new Turns({ size: SIZE, clusterSize, version, backing: base }, random);
  const snapshots = new Map<string, Uint8Array>();
  const history = (): void => {
    turns.ours(image, 12);
    if (!encrypted) turns.oursCompressed(image, 6);
  };
  for (const name of ['one', 'two']) {
    history();
    createSnapshot(image, { name });
    snapshots.set(name, turns.model.bytes.slice());
  }
  history();
  return { file: path('disk.qcow2'), image, turns, encryption, snapshots };
}

interface Exported {
  /** The disk when the export began. */
  readonly start: Uint8Array;
  /** Steps between which the guest has written. */
  readonly steps: number;
}

/** Carries an export out as the worker does, while the guest writes between all steps. */
function exportUnderWrites({ image, turns, encryption }: Made, target: string, content: ExportContent): Exported {
  const start = turns.model.bytes.slice();
  const moment = takeMoment(image);
  if (moment === null) throw new Error('there is no moment');
  const storage = NodeFileStorage.open(target, { create: true });
  let steps = 0;
  const whileWritten = (job: Iterator<unknown>): void => {
    while (job.next().done !== true) {
      turns.ours(image, 4);
      if (steps++ % 2 === 0) image.flush();
    }
  };
  whileWritten(exportJob(image, storage, content, { encryption, moment }));
  whileWritten(moment.release());
  storage.close();
  return { start, steps };
}

function bytesOf(path: string, encrypted: boolean): Uint8Array {
  return encrypted ? decryptedByQemu('qcow2', path, PASSPHRASE) : qemuBytes(path);
}

function expectClean(path: string, encrypted: boolean, when: string): void {
  if (!encrypted) return expectCleanCheck(path, when);
  const { leaks, corruptions, checkErrors, output } = qemuCheckWith(PASSPHRASE, path);
  expect({ leaks, corruptions, checkErrors }, output).toEqual({ leaks: 0, corruptions: 0, checkErrors: 0 });
}

const NOW: ExportContent = { of: 'disk', snapshots: false };
const ALL: ExportContent = { of: 'disk', snapshots: true };
const OVERLAY: ExportContent = { of: 'overlay' };

describe.each(SHAPES)('exports while the guest writes: $title', (shape) => {
  const { encrypted = false, backing = false } = shape;
  const compress = encrypted ? {} : ({ compress: shape.create.version === 2 ? 'deflate' : 'zstd' } as const);
  const contents: [string, ExportContent][] = [
    ['now', NOW],
    ['all', { ...ALL, ...compress }],
    ...(backing ? ([['overlay', OVERLAY]] as [string, ExportContent][]) : []),
    ...(backing ? ([['packed', { ...OVERLAY, ...compress }]] as [string, ExportContent][]) : []),
  ];

  it('are of the moment at which they began, and the disk is what the guest has made it', async () => {
    await withSeed(shape.title, seedOfThisRun(), (random) =>
      inTemporaryDirectory(async (path) => {
        const made = await make(path, shape, random);
        const starts = new Map<string, Uint8Array>();
        for (const [name, content] of contents) {
          const { start, steps } = exportUnderWrites(made, path(name), content);
          expect(steps).toBeGreaterThan(3);
          starts.set(name, start);
        }
        const { image, turns, file, snapshots } = made;
        expect(listSnapshots(image).map(({ name }) => name)).toEqual(['one', 'two']);
        for (const [name, bytes] of snapshots) {
          expectSameBytes(readWhole(openSnapshot(image, { name })), bytes, `the snapshot ${name} of the disk`);
        }
        image.close();
        expectClean(file, encrypted, 'of the disk');
        expectSameBytes(bytesOf(file, encrypted), turns.model.bytes, 'the disk');
        for (const [name, start] of starts) {
          expectClean(path(name), encrypted, `of the export ${name}`);
          expectSameBytes(bytesOf(path(name), encrypted), start, `the export ${name}`);
        }
        await expectSnapshots(path('all'), snapshots);
        const { 'backing-filename': recorded } = backing ? qemuInfo(path('overlay')) : {};
        expect(recorded).toBe(backing ? path('base.raw') : undefined);
      }),
    );
  });
});

async function expectSnapshots(path: string, snapshots: ReadonlyMap<string, Uint8Array>): Promise<void> {
  const storage = NodeFileStorage.open(path, { readOnly: true });
  const image = await openChain(storage, { readOnly: true, passphrase: PASSPHRASE });
  expect(listSnapshots(image).map(({ name }) => name)).toEqual([...snapshots.keys()]);
  for (const [name, bytes] of snapshots) {
    expectSameBytes(readWhole(openSnapshot(image, { name })), bytes, `the snapshot ${name} of the export`);
  }
  image.close();
}

describe('an overlay', () => {
  const shape: Shape = { title: '', create: { clusterSize: 65536 }, backing: true };

  it('has no more than the disk has of its own, and reads as the disk over the file that it is told to name', async () => {
    await withSeed('an overlay', seedOfThisRun(), (random) =>
      inTemporaryDirectory(async (path) => {
        const made = await make(path, shape, random);
        copyFileSync(path('base.raw'), path('other.raw'));
        const content: ExportContent = { of: 'overlay', backing: { name: 'other.raw', format: 'raw' } };
        const { start } = exportUnderWrites(made, path('overlay'), content);
        made.image.close();
        expect(qemuInfo(path('overlay'))).toMatchObject({
          'backing-filename': 'other.raw',
          'full-backing-filename': path('other.raw'),
        });
        expectSameBytes(qemuBytes(path('overlay')), start, 'the overlay over the other file');
        qemuImg('rebase', '-u', '-b', '', path('overlay'));
        const alone = runToEnd(checkImage(NodeFileStorage.open(path('overlay'), { readOnly: true })));
        expect(alone.allocatedClusters).toBeLessThan(alone.totalClusters);
        expect(readFileSync(path('overlay')).length).toBeLessThan(SIZE);
      }),
    );
  });
});

describe('bitmaps', () => {
  it('mark what the guest changes during an export, are as they were else, and are not in it', async () => {
    await withSeed('bitmaps', seedOfThisRun(), (random) =>
      inTemporaryDirectory(async (path) => {
        const made = await make(path, { title: '', create: { clusterSize: 65536 } }, random);
        const { image, file } = made;
        addBitmap(image, { name: 'changes' });
        addBitmap(image, { name: 'stopped', enabled: false });
        image.write(0, new Uint8Array(512).fill(9));
        made.turns.model.write(0, new Uint8Array(512).fill(9));
        const { start } = exportUnderWrites(made, path('now'), NOW);
        const marked = [...dirtyRanges(image, 'changes')];
        const end = made.turns.model.bytes;
        for (let at = 0; at < SIZE; at += 65536) {
          if (Buffer.compare(start.subarray(at, at + 65536), end.subarray(at, at + 65536)) === 0) continue;
          const inside = marked.some(({ offset, length }) => offset <= at && at < offset + length);
          expect(inside, `the cluster at ${at}`).toBe(true);
        }
        expect([...dirtyRanges(image, 'stopped')]).toEqual([]);
        image.close();
        expectCleanCheck(file, 'with bitmaps');
        expect(JSON.stringify(qemuInfo(file))).toContain('"stopped"');
        const copy = openImage(new MemoryStorage(new Uint8Array(readFileSync(path('now')))), { readOnly: true });
        expect(listBitmaps(copy)).toEqual([]);
      }),
    );
  });
});
