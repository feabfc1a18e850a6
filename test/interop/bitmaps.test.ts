/**
 * Persistent bitmaps beside QEMU: its bitmaps kept here, ours kept there, in turns. What a bitmap says is read from the bytes of the
 * file by the specification, from ours and from the copy that `qemu-img convert --bitmaps` makes of it.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  addBitmap,
  amendImage,
  clearBitmap,
  confirmIncrement,
  createSnapshot,
  dirtyBytes,
  dirtyRanges,
  disableBitmap,
  enableBitmap,
  exportIncremental,
  gotoSnapshot,
  listBitmaps,
  mergeBitmap,
  removeBitmap,
  resizeImage,
  runToEnd,
  storeBitmaps,
  type Qcow2Image,
} from '../../src/index.js';
import { NodeFileStorage } from '../../src/node.js';
import { randomRange } from '../support/disk-actions.js';
import { granulesOf, rawBitmaps, sorted } from '../support/raw-bitmaps.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';
import { openOurs, withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuCreate, qemuImg, qemuInfo, qemuIo } from './qemu.js';

const MIB = 1024 * 1024;
/** The byte of the header with the bit that vouches for bitmaps. */
const AUTOCLEAR_AT = 95;

interface ModelBitmap {
  readonly granularity: number;
  enabled: boolean;
  marked: Set<number>;
}

type Model = Map<string, ModelBitmap>;

/** What the file says, by our own reading and by QEMU's. */
function expectBitmaps(file: string, model: Model, when: string): void {
  expectCleanCheck(file, when);
  const copy = `${file}.copy`;
  qemuImg('convert', '--bitmaps', '-O', 'qcow2', '-f', 'qcow2', file, copy);
  for (const path of [file, copy]) {
    const found = rawBitmaps(readFileSync(path)).map(({ name, granularity, flags, marked }) => ({
      ...{ name, granularity, flags },
      marked: sorted(marked),
    }));
    const expected = [...model].map(([name, { granularity, enabled, marked }]) => ({
      ...{ name, granularity, flags: enabled ? 2 : 0 },
      marked: sorted(marked),
    }));
    expect(found, `${when}, ${path === file ? 'in the file' : "in QEMU's copy"}`).toEqual(expected);
  }
}

function mark(model: Model, offset: number, length: number): void {
  for (const { enabled, granularity, marked } of model.values()) {
    if (enabled) for (const granule of granulesOf(offset, length, granularity)) marked.add(granule);
  }
}

/** Guest requests of ours, and the same on the model. */
function change(image: Qcow2Image, model: Model, random: SeededRandom): void {
  const { size, clusterSize } = image;
  for (let count = random.below(6); count > 0; count--) {
    const { offset, length } = randomRange(random, size, clusterSize, 200_000);
    switch (random.below(5)) {
      case 0:
        image.writeZeroes(offset, length, { unmap: random.oneIn(2) });
        break;
      case 1:
        image.discard(offset, length);
        break;
      case 2: {
        const start = Math.floor(offset / clusterSize) * clusterSize;
        const compressed = Math.min(clusterSize, size - start);
        image.writeCompressed(start, new Uint8Array(compressed).fill(7));
        mark(model, start, compressed);
        continue;
      }
      default:
        image.write(offset, random.bytes(length));
    }
    mark(model, offset, length);
  }
}

/** An operation on bitmaps: by us where there is an image, else by qemu-img; and on the model. */
function operate(target: Qcow2Image | string, model: Model, { random, size }: { random: SeededRandom; size: number }) {
  const names = [...model.keys()];
  const name = names.length === 0 ? 'first' : random.pick(names);
  const other = names.length === 0 ? 'first' : random.pick(names);
  const bitmap = model.get(name);
  const act = (ours: (image: Qcow2Image) => void, ...args: string[]): void => {
    if (typeof target === 'string')
      qemuImg('bitmap', ...args, '-f', 'qcow2', target, args[0] === '--add' ? added : name);
    else ours(target);
  };
  const added = `bitmap ${names.length} ${random.below(1000)}`;
  if (bitmap === undefined || names.length < 2 || random.oneIn(5)) {
    const granularity = 2 ** random.between(9, 20);
    act((image) => addBitmap(image, { name: added, granularity }), '--add', '-g', String(granularity));
    model.set(added, { granularity, enabled: true, marked: new Set() });
    return;
  }
  switch (random.below(5)) {
    case 0:
      act((image) => clearBitmap(image, name), '--clear');
      bitmap.marked.clear();
      break;
    case 1:
      act((image) => enableBitmap(image, name), '--enable');
      bitmap.enabled = true;
      break;
    case 2:
      act((image) => disableBitmap(image, name), '--disable');
      bitmap.enabled = false;
      break;
    case 3:
      act((image) => removeBitmap(image, name), '--remove');
      model.delete(name);
      break;
    default: {
      act((image) => mergeBitmap(image, name, { name: other }), '--merge', other);
      const { granularity, marked } = model.get(other)!;
      for (const granule of [...marked]) {
        const offset = granule * granularity;
        const length = Math.min(granularity, size - offset);
        for (const each of granulesOf(offset, length, bitmap.granularity)) bitmap.marked.add(each);
      }
    }
  }
}

function qemuChanges(file: string, size: number, model: Model, random: SeededRandom): void {
  const commands = Array.from({ length: random.below(4) }, () => {
    const start = Math.min(size - 512, random.below(size / 512) * 512);
    const length = Math.min(size - start, 512 * random.between(1, 300));
    mark(model, start, length);
    return `${random.pick(['write -P 3', 'write -z', 'discard'])} ${start} ${length}`;
  });
  if (commands.length > 0) qemuIo(file, commands);
}

describe('bitmaps of an image that QEMU and we take turns on', () => {
  const shapes = [
    { size: 3 * MIB + 512, cluster: 512 },
    { size: 9 * MIB + 1536, cluster: 4096 },
    { size: 12 * MIB, cluster: 65536 },
    { size: 21 * MIB, cluster: 2 * MIB },
  ];
  it.each(shapes)('mark what a model does: clusters of $cluster bytes', ({ size, cluster }) =>
    inTemporaryDirectory((path) =>
      withSeed(`clusters of ${cluster}`, seedOfThisRun(cluster), async (random) => {
        const file = path('image.qcow2');
        qemuCreate(file, { size, options: { cluster_size: cluster } });
        const model: Model = new Map();
        for (let turn = 0; turn < 6; turn++) {
          if (random.oneIn(3)) {
            operate(file, model, { random, size });
            qemuChanges(file, size, model, random);
          } else {
            await withOurs(file, (image) => {
              for (let step = random.between(1, 4); step > 0; step--) {
                change(image, model, random);
                if (random.oneIn(2)) operate(image, model, { random, size });
                if (random.oneIn(4)) storeBitmaps(image);
                if (random.oneIn(4)) image.reopen({ readOnly: true });
                if (image.readOnly) image.reopen({ readOnly: false });
                if (random.oneIn(6)) image.inactivate();
                if (random.oneIn(6)) image.invalidate();
                else if (isInactive(image)) image.invalidate();
              }
            });
          }
          expectBitmaps(file, model, `after turn ${turn}`);
        }
      }),
    ),
  );

  function isInactive(image: Qcow2Image): boolean {
    try {
      image.flush();
      return false;
    } catch {
      return true;
    }
  }

  it('are given with all their bits set, and none', () =>
    inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      const size = 40 * MIB;
      qemuCreate(file, { size, options: { cluster_size: 4096 } });
      await withOurs(file, (image) => {
        addBitmap(image, { name: 'all', granularity: 512 });
        addBitmap(image, { name: 'none', granularity: 512, enabled: false });
        image.writeZeroes(0, size);
      });
      const [all, none] = rawBitmaps(readFileSync(file));
      // 81,920 bits in clusters of 32,768: two full ones need no cluster, the last one is not full.
      expect(all!.table.map((entry) => Math.min(entry, 2))).toEqual([1, 1, 2]);
      expect(none!.table).toEqual([0, 0, 0]);
      const model: Model = new Map([
        ['all', { granularity: 512, enabled: true, marked: new Set(granulesOf(0, size, 512)) }],
        ['none', { granularity: 512, enabled: false, marked: new Set() }],
      ]);
      expectBitmaps(file, model, 'all set');
      await withOurs(file, (image) => expect(dirtyBytes(image, 'all')).toBe(size));
    }));
});

describe('a bitmap that was not closed', () => {
  it('by QEMU is inconsistent here: it can be removed, and nothing else', () =>
    inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: MIB });
      qemuImg('bitmap', '--add', file, 'b');
      expect(() => qemuIo(file, ['abort'])).toThrow(/ended with/);
      await withOurs(file, (image) => {
        expect(listBitmaps(image)).toEqual([{ name: 'b', granularity: 65536, enabled: true, state: 'inconsistent' }]);
        const uses = [clearBitmap, enableBitmap, disableBitmap, dirtyRanges, dirtyBytes];
        for (const use of uses) expect(() => use(image, 'b')).toThrow(/"b" is inconsistent/);
        expect(() => mergeBitmap(image, 'b', { name: 'b' })).toThrow(/inconsistent/);
        expect(() => runToEnd(resizeImage(image, { size: 2 * MIB }))).toThrow(/"b" is inconsistent/);
        image.write(0, new Uint8Array(100).fill(1));
      });
      expect(rawBitmaps(readFileSync(file))).toMatchObject([{ name: 'b', flags: 3 }]);
      await withOurs(file, (image) => removeBitmap(image, 'b'));
      expectCleanCheck(file);
      expect(rawBitmaps(readFileSync(file))).toEqual([]);
    }));

  it('by us is in use for QEMU, if the guest changed something since it was stored', () =>
    inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: MIB });
      const image = await openOurs(file);
      addBitmap(image, { name: 'b' });
      addBitmap(image, { name: 'off', enabled: false });
      const flags = () => rawBitmaps(readFileSync(file)).map((bitmap) => bitmap.flags);
      image.flush();
      expect(flags()).toEqual([2, 0]);
      image.write(0, new Uint8Array(10));
      expect(flags()).toEqual([3, 0]);
      expect(JSON.stringify(qemuInfo(file))).toContain('in-use');
      expect(() => qemuImg('convert', '--bitmaps', '-O', 'qcow2', file, path('copy'))).toThrow(
        /inconsistent bitmap 'b'/,
      );
      storeBitmaps(image);
      expect(flags()).toEqual([2, 0]);
      expectCleanCheck(file);
      image.close();
    }));
});

describe('what becomes of bitmaps', () => {
  it('that software without bitmaps has made out of date: they are not listed, and not brought back', () =>
    inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: MIB });
      await withOurs(file, (image) => addBitmap(image, { name: 'b' }));
      const bytes = readFileSync(file);
      expect(bytes[AUTOCLEAR_AT]).toBe(1);
      bytes[AUTOCLEAR_AT] = 0;
      writeFileSync(file, bytes);
      await withOurs(file, (image) => {
        expect(listBitmaps(image)).toEqual([]);
        image.write(0, new Uint8Array(10));
        image.reopen({});
        expect(listBitmaps(image)).toEqual([]);
        addBitmap(image, { name: 'new' });
        expect(listBitmaps(image)).toHaveLength(1);
      });
      expect(rawBitmaps(readFileSync(file))).toMatchObject([{ name: 'new' }]);
    }));

  it('in a resize: what is new is marked in the enabled ones, and QEMU takes them', () =>
    inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      const size = 4 * MIB;
      qemuCreate(file, { size, options: { cluster_size: 4096 } });
      const granularity = 65536;
      await withOurs(file, (image) => {
        addBitmap(image, { name: 'on', granularity });
        addBitmap(image, { name: 'off', granularity });
        image.write(3 * MIB, new Uint8Array(1));
        disableBitmap(image, 'off');
        runToEnd(resizeImage(image, { size: 2 * MIB, shrink: true }));
        runToEnd(resizeImage(image, { size: 3 * MIB + 512 }));
        image.resize(3 * MIB + 1024);
      });
      const marked = new Set(granulesOf(2 * MIB, MIB + 1024, granularity));
      const model: Model = new Map([
        ['on', { granularity, enabled: true, marked }],
        ['off', { granularity, enabled: false, marked: new Set() }],
      ]);
      expectBitmaps(file, model, 'after resizing');
      qemuImg('resize', '-f', 'qcow2', file, '64M');
      await withOurs(file, (image) => expect(dirtyBytes(image, 'on')).toBe(marked.size * granularity));
    }));

  it('when the disk goes to a snapshot: all of it is marked', () =>
    inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: MIB });
      await withOurs(file, (image) => {
        image.write(0, new Uint8Array(100_000).fill(1));
        createSnapshot(image, { name: 'then' });
        addBitmap(image, { name: 'on' });
        addBitmap(image, { name: 'off', enabled: false });
        image.write(500_000, new Uint8Array(10).fill(2));
        gotoSnapshot(image, 'then');
        expect(dirtyBytes(image, 'on')).toBe(MIB);
        clearBitmap(image, 'on');
        image.resize(2 * MIB);
        clearBitmap(image, 'on');
        gotoSnapshot(image, 'then');
        expect(image.size).toBe(MIB);
      });
      const model: Model = new Map([
        ['on', { granularity: 65536, enabled: true, marked: new Set(granulesOf(0, MIB, 65536)) }],
        ['off', { granularity: 65536, enabled: false, marked: new Set() }],
      ]);
      expectBitmaps(file, model, 'after going to the snapshot');
    }));

  it('in amendments: they are kept, and version 2 has none', () =>
    inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: MIB });
      const model: Model = new Map([['b', { granularity: 65536, enabled: true, marked: new Set([3]) }]]);
      await withOurs(file, (image) => {
        addBitmap(image, { name: 'b' });
        image.write(200_000, new Uint8Array(10).fill(2));
        runToEnd(amendImage(image, { refcountBits: 64, lazyRefcounts: true }));
      });
      expectBitmaps(file, model, 'after amending');
      await withOurs(file, (image) => runToEnd(amendImage(image, { refcountBits: 16, version: 2 })));
      expectCleanCheck(file);
      await withOurs(file, (image) => {
        expect(listBitmaps(image)).toEqual([]);
        expect(() => addBitmap(image, { name: 'b' })).toThrow(/version 2/);
      });
    }));
});

it("a base of QEMU's and our increments, one over the other, read as the disk that both have written", () =>
  inTemporaryDirectory((path) =>
    withSeed('increments', seedOfThisRun(830), async (random) => {
      const file = path('image.qcow2');
      const size = 8 * MIB;
      qemuCreate(file, { size, options: { cluster_size: 4096 } });
      qemuIo(file, ['write -P 1 0 3M', 'write -P 2 5M 1M']);
      qemuImg('bitmap', '--add', '-g', '8k', '-f', 'qcow2', file, 'backup');
      let last = path('base.qcow2');
      qemuImg('convert', '-O', 'qcow2', '-f', 'qcow2', file, last);
      for (let turn = 0; turn < 5; turn++) {
        const model: Model = new Map();
        qemuChanges(file, size, model, random);
        const next = path(`increment-${turn}.qcow2`);
        const backing = { name: last, format: 'qcow2' } as const;
        await withOurs(file, (image) => {
          change(image, model, random);
          const target = NodeFileStorage.open(next, { create: true });
          confirmIncrement(image, 'backup', runToEnd(exportIncremental(image, 'backup', target, { backing })));
        });
        expectCleanCheck(next);
        last = next;
        qemuImg('compare', '-f', 'qcow2', '-F', 'qcow2', file, last);
      }
      for (let turn = 4; turn > 0; turn--) qemuImg('commit', '-q', '-f', 'qcow2', path(`increment-${turn}.qcow2`));
      qemuImg('compare', '-f', 'qcow2', '-F', 'qcow2', file, path('increment-0.qcow2'));
    }),
  ));
