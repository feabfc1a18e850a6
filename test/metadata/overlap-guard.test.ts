/** Each of the nine structures, under each template and with each switch. */
import { describe, expect, it } from 'vitest';
import { createImage, MemoryStorage, openImage } from '../../src/index.js';
import { wasmKernels } from '../../src/kernels/index.js';
import { readHeader } from '../../src/metadata/header-state.js';
import { ImageTables } from '../../src/metadata/image-tables.js';
import { GUARDED_STRUCTURES, guardedStructures, type OverlapCheck } from '../../src/metadata/overlap-options.js';
import { GuardedStorage } from '../../src/storage/guarded.js';
import { plainData } from '../../src/storage/guest-data.js';

const CLUSTER = 4096;
const SIZE = 0x80_0000;
/** Clusters behind the end of what the engine writes, where the test puts structures of its own. */
const FOREIGN = 200;

type Places = Readonly<Record<(typeof GUARDED_STRUCTURES)[number], number>>;

/** An image with one snapshot and a bitmap directory, made by hand at the end of the file, and where everything lies. */
function imageWithEverything(): { bytes: Uint8Array<ArrayBuffer>; places: Places } {
  const storage = new MemoryStorage();
  createImage(storage, { size: SIZE, clusterSize: CLUSTER });
  const image = openImage(storage);
  image.write(0, new Uint8Array(10 * CLUSTER).fill(1));
  image.close();
  const places = {
    snapshotTable: FOREIGN * CLUSTER,
    inactiveL1: (FOREIGN + 1) * CLUSTER,
    inactiveL2: (FOREIGN + 2) * CLUSTER,
    bitmapDirectory: (FOREIGN + 3) * CLUSTER,
  };
  storage.truncate((FOREIGN + 4) * CLUSTER);
  const bytes = storage.toBytes();
  const view = new DataView(bytes.buffer);
  view.setUint32(60, 1);
  view.setBigUint64(64, BigInt(places.snapshotTable));
  view.setBigUint64(places.snapshotTable, BigInt(places.inactiveL1));
  view.setUint32(places.snapshotTable + 8, 4);
  view.setBigUint64(places.inactiveL1 + 8, BigInt(places.inactiveL2));
  view.setBigUint64(88, 1n);
  const extension = view.getUint32(100);
  bytes.fill(0, extension, CLUSTER);
  view.setUint32(extension, 0x2385_2875);
  view.setUint32(extension + 4, 24);
  view.setUint32(extension + 8, 1);
  view.setBigUint64(extension + 16, 32n);
  view.setBigUint64(extension + 24, BigInt(places.bitmapDirectory));
  const l1 = Number(view.getBigUint64(40));
  const refcountTable = Number(view.getBigUint64(48));
  const activeL2 = Number(view.getBigUint64(l1) & 0x00ff_ffff_ffff_fe00n);
  const refcountBlock = Number(view.getBigUint64(refcountTable));
  return { bytes, places: { ...places, mainHeader: 0, activeL1: l1, activeL2, refcountTable, refcountBlock } };
}

const EVERYTHING = imageWithEverything();

function tablesWith(overlapCheck: OverlapCheck | undefined, bytes = EVERYTHING.bytes): ImageTables {
  const storage = new GuardedStorage(new MemoryStorage(bytes.slice()));
  const header = readHeader(storage);
  const guestData = plainData(storage);
  const options = { overlapCheck };
  return new ImageTables({ storage, data: storage, guestData, header, kernels: wasmKernels, writable: true, options });
}

/** The structures that a write of guest data is kept off. */
function guardedWith(overlapCheck: OverlapCheck | undefined): string[] {
  const { guard } = tablesWith(overlapCheck).writable!;
  return GUARDED_STRUCTURES.filter((structure) => {
    try {
      guard.check(EVERYTHING.places[structure], 512, 'guest data');
      return false;
    } catch (error) {
      expect(error).toMatchObject({ code: 'CORRUPT', message: expect.stringContaining('would overwrite') as string });
      return true;
    }
  });
}

const CONSTANT = ['mainHeader', 'activeL1', 'refcountTable', 'snapshotTable', 'bitmapDirectory'];
const CACHED = [...CONSTANT, 'activeL2', 'refcountBlock', 'inactiveL1'];
const ALL = [...CACHED, 'inactiveL2'];
const inOrder = (names: readonly string[]) => GUARDED_STRUCTURES.filter((name) => names.includes(name));

describe('the overlap guard', () => {
  it.each<[OverlapCheck | undefined, readonly string[]]>([
    [undefined, CACHED],
    ['none', []],
    ['constant', CONSTANT],
    ['cached', CACHED],
    ['all', ALL],
    [{}, CACHED],
    [{ template: 'constant' }, CONSTANT],
  ])('told %o keeps writes off what that template names, and off nothing else', (check, names) => {
    expect(guardedWith(check)).toEqual(inOrder(names));
  });

  for (const structure of GUARDED_STRUCTURES) {
    it(`takes the switch ${structure} on top of any template`, () => {
      expect(guardedWith({ template: 'none', [structure]: true })).toEqual([structure]);
      expect(guardedWith({ template: 'all', [structure]: false })).toEqual(
        inOrder(ALL.filter((name) => name !== structure)),
      );
    });

    it(`lets a table that is ${structure} itself be written`, () => {
      const { guard } = tablesWith('all').writable!;
      const place = EVERYTHING.places[structure];
      expect(() => guard.check(place, 512, 'a table', structure)).not.toThrow();
      expect(() => guard.check(place, 512, 'a table')).toThrow(/would overwrite/);
    });
  }

  it('knows clusters, not bytes: no other use of a part of the cluster is let through', () => {
    const { guard } = tablesWith('cached').writable!;
    const { activeL2 } = EVERYTHING.places;
    expect(() => guard.check(activeL2 + CLUSTER - 1, 1, 'guest data')).toThrow(/an L2 table/);
    expect(() => guard.check(activeL2 - 1, 2, 'guest data')).toThrow(/would overwrite/);
    const directory = EVERYTHING.places.bitmapDirectory;
    expect(() => guard.check(directory + CLUSTER - 1, 1, 'guest data')).toThrow(/the bitmap directory/);
    expect(() => guard.check(directory + CLUSTER, CLUSTER, 'guest data')).not.toThrow();
  });

  it('finds a structure in the middle of a long write, and names place and length', () => {
    const { guard } = tablesWith('cached').writable!;
    const start = (FOREIGN - 50) * CLUSTER;
    expect(() => guard.check(start, 100 * CLUSTER, 'guest data')).toThrow(
      `guest data at 0x${start.toString(16)} (${100 * CLUSTER} bytes) would overwrite the snapshot table`,
    );
  });

  it('follows the tables: a new L2 table is guarded, a bitmap directory that has lost its bit is not', () => {
    const tables = tablesWith('cached');
    const { guard, allocator } = tables.writable!;
    const host = allocator.allocateContiguous(1);
    expect(() => guard.check(host, CLUSTER, 'guest data')).not.toThrow();
    tables.l1.set(3, host, { copied: true });
    expect(() => guard.check(host, CLUSTER, 'guest data')).toThrow(/an L2 table/);
    tables.beforeGuestChange();
    expect(() => guard.check(EVERYTHING.places.bitmapDirectory, CLUSTER, 'guest data')).not.toThrow();
  });

  it('follows the snapshots when it is told that they changed', () => {
    const { places } = EVERYTHING;
    const tables = tablesWith('all');
    const { guard, inactive } = tables.writable!;
    const moved = (FOREIGN - 10) * CLUSTER;
    expect(() => guard.check(moved, 8, 'guest data')).not.toThrow();
    const entry = new Uint8Array(8);
    new DataView(entry.buffer).setBigUint64(0, BigInt(moved));
    tables.storage.write(places.inactiveL1 + 8, entry);
    inactive.changed();
    expect(() => guard.check(moved, 8, 'guest data')).toThrow(/an L2 table of a snapshot/);
    expect(() => guard.check(places.inactiveL2, 8, 'guest data')).not.toThrow();
  });

  it.each<[unknown, RegExp]>([
    ['most', /overlapCheck is "most"; it must be none, constant, cached or all/],
    [{ template: 'some' }, /overlapCheck is "some"/],
    [{ mainHeadr: true }, /a switch "mainHeadr"; there are mainHeader, activeL1/],
  ])('refuses %o', (check, message) => {
    expect(() => guardedStructures(check as OverlapCheck)).toThrow(
      expect.objectContaining({ code: 'BAD_ARGUMENT', message: expect.stringMatching(message) as string }),
    );
  });

  it('refuses at once an image whose snapshot table can not be read, unless snapshots are not guarded', () => {
    const damaged = EVERYTHING.bytes.slice();
    new DataView(damaged.buffer).setUint32(EVERYTHING.places.snapshotTable + 36, 5000);
    const open = (overlapCheck: OverlapCheck) => openImage(new MemoryStorage(damaged.slice()), { overlapCheck });
    expect(() => open('cached')).toThrow(expect.objectContaining({ code: 'BAD_IMAGE' }));
    expect(() => open({ snapshotTable: false, inactiveL1: false })).not.toThrow();
  });
});

describe('a table that lies in the place of another structure', () => {
  /** The bitmap directory, whose place nobody checks when an image is opened, is said to be where a table is. */
  function tablesOver(place: number): ImageTables {
    const bytes = EVERYTHING.bytes.slice();
    const view = new DataView(bytes.buffer);
    view.setBigUint64(view.getUint32(100) + 24, BigInt(place));
    return tablesWith('cached', bytes);
  }

  const { places } = EVERYTHING;
  const writes: [string, number, (tables: ImageTables) => void, RegExp][] = [
    ['L1 table', places.activeL1, ({ l1 }) => l1.set(3, 0, { copied: true }), /the L1 table at/],
    ['L2 table', places.activeL2, ({ l2 }) => l2.linkZero(0, 1, { keep: true }), /an L2 table at/],
    ['refcount block', places.refcountBlock, ({ writable }) => writable!.refcounts.add(1, 1, 1), /a refcount block at/],
    [
      'refcount table',
      places.refcountTable,
      ({ writable }) => writable!.refcounts.table.set(5, 150 * CLUSTER, { copied: false }),
      /the refcount table at/,
    ],
  ];
  it.each(writes)('is not written: %s', (_, place, change, message) => {
    const tables = tablesOver(place);
    const before = new Uint8Array(CLUSTER);
    tables.storage.read(place, before);
    change(tables);
    expect(() => tables.writable!.order.flush()).toThrow(message);
    const after = new Uint8Array(CLUSTER);
    tables.storage.read(place, after);
    expect(Buffer.compare(after, before)).toBe(0);
  });
});
