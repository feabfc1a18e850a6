/** The bitmap directory and bitmap tables: encoded and decoded, and every rule that an entry can break. */
import { describe, expect, it } from 'vitest';
import {
  bitmapEntryBytes,
  bitmapsExtensionOf,
  decodeBitmapDirectory,
  decodeBitmapsExtension,
  encodeBitmapDirectory,
  encodeBitmapsExtension,
  type BitmapEntry,
} from '../../src/format/bitmap-directory.js';
import { decodeBitmapTable, decodeBitmapTableEntry, encodeBitmapTable } from '../../src/format/bitmap-table.js';
import { AUTOCLEAR_BITMAPS } from '../../src/format/features.js';
import { EXTENSION_BITMAPS } from '../../src/format/header-extensions.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';

const CLUSTER = 65536;
const SHAPE = { clusterSize: CLUSTER, diskSize: 2 ** 30 };

function entryOf(changes: Partial<BitmapEntry> = {}, name = 'nightly'): BitmapEntry {
  return {
    name,
    nameBytes: new TextEncoder().encode(name),
    tableOffset: 5 * CLUSTER,
    tableEntries: 1,
    inUse: false,
    auto: true,
    extraDataCompatible: false,
    granularityBits: 16,
    extraData: new Uint8Array(0),
    ...changes,
  };
}

function decode(directory: Uint8Array, count = 1): BitmapEntry[] {
  return decodeBitmapDirectory(directory, { ...SHAPE, count });
}

/** One entry with a field set by hand. */
function broken(set: (view: DataView) => void): Uint8Array {
  const directory = encodeBitmapDirectory([entryOf()]);
  set(new DataView(directory.buffer));
  return directory;
}

describe('the bitmap directory', () => {
  it('comes back as it was written, with names of any bytes and with extra data', () =>
    withSeed('directory', seedOfThisRun(810), (random) => {
      const entries = Array.from({ length: 40 }, (_, index) => {
        const nameBytes = Uint8Array.from([index, ...random.bytes(random.between(1, 1022))]);
        return entryOf({
          name: new TextDecoder().decode(nameBytes),
          nameBytes,
          tableOffset: CLUSTER * random.between(1, 2 ** 30),
          tableEntries: random.between(1, 8192),
          inUse: random.oneIn(2),
          auto: random.oneIn(2),
          extraDataCompatible: random.oneIn(2),
          granularityBits: random.between(16, 31),
          extraData: random.bytes(random.below(20)),
        });
      });
      const directory = encodeBitmapDirectory(entries);
      expect(directory.length).toBe(entries.reduce((sum, entry) => sum + bitmapEntryBytes(entry), 0));
      expect(decode(directory, 40)).toEqual(entries);
    }));

  const cases: [string, (view: DataView) => void, RegExp][] = [
    ['a table at 0', (view) => view.setBigUint64(0, 0n), /bitmap_table_offset .*0x0/],
    ['a table inside a cluster', (view) => view.setBigUint64(0, 512n), /bitmap_table_offset .*0x200; .*65536/],
    ['a table past 2^53', (view) => view.setBigUint64(0, 1n << 60n), /2\^53/],
    ['an empty table', (view) => view.setUint32(8, 0), /bitmap_table_size .* is 0/],
    ['a table for more than 512 MiB', (view) => view.setUint32(8, 8193), /bitmap_table_size .* 8193; .*1 to 8192/],
    ['a reserved flag', (view) => view.setUint32(12, 8), /flags .* 0x8; bits 3 to 31/],
    ['the highest flag', (view) => view.setUint32(12, 2 ** 31), /flags .* 0x80000000/],
    ['another type', (view) => view.setUint8(16, 2), /type .* is 2; it must be 1/],
    ['bits of 256 bytes', (view) => view.setUint8(17, 8), /granularity_bits .* is 8; .*9 to 31/],
    ['bits of 4 GiB', (view) => view.setUint8(17, 32), /granularity_bits .* is 32/],
    ['no name', (view) => view.setUint16(18, 0), /name_size .* is 0; .*1 to 1023|1 entries in 24 of/],
    ['a name past the end', (view) => view.setUint16(18, 9), /9 bytes of name/],
    ['extra data past the end', (view) => view.setUint32(20, 2 ** 32 - 1), /4294967295 of extra data/],
  ];
  it.each(cases)('is refused with %s', (_, set, message) => {
    expect(() => decode(broken(set))).toThrow(message);
  });

  it('is refused when its entries do not fill it, or a name comes twice', () => {
    const directory = encodeBitmapDirectory([entryOf(), entryOf({}, 'b')]);
    expect(decode(directory, 2)).toHaveLength(2);
    expect(() => decode(directory, 1)).toThrow(/1 entries in 32 of its 64 bytes; it must have 1, and nothing behind/);
    expect(() => decode(directory, 3)).toThrow(/2 entries in 64 of its 64 bytes; it must have 3/);
    expect(() => decode(directory.subarray(0, 40), 2)).toThrow(/entry 1 .* cut short: 8 bytes are left, it needs 24/);
    expect(() => decode(encodeBitmapDirectory([entryOf(), entryOf()]), 2)).toThrow(
      /a name that another has: "nightly"/,
    );
    expect(() => decode(encodeBitmapDirectory([entryOf({}, 'x'.repeat(1024))]))).toThrow(/name_size .* 1024/);
  });

  it('has tables for the whole disk, but for bitmaps that are out of date', () => {
    const diskSize = CLUSTER * 8 * 65536 + 1;
    const small = encodeBitmapDirectory([entryOf()]);
    expect(() => decodeBitmapDirectory(small, { clusterSize: CLUSTER, diskSize, count: 1 })).toThrow(/at least 2 for/);
    const outOfDate = encodeBitmapDirectory([entryOf({ inUse: true })]);
    expect(decodeBitmapDirectory(outOfDate, { clusterSize: CLUSTER, diskSize, count: 1 })).toHaveLength(1);
  });
});

describe('the bitmaps extension', () => {
  const extension = { count: 2, directoryBytes: 64, directoryOffset: 3 * CLUSTER };

  it('comes back as it was written', () => {
    expect(decodeBitmapsExtension(encodeBitmapsExtension(extension), CLUSTER)).toEqual(extension);
  });

  it('counts only while the autoclear bit vouches for it', () => {
    const extensions = [{ type: EXTENSION_BITMAPS, data: encodeBitmapsExtension(extension) }];
    expect(bitmapsExtensionOf({ autoclear: AUTOCLEAR_BITMAPS, extensions, clusterBits: 16 })).toEqual(extension);
    expect(bitmapsExtensionOf({ autoclear: 2n, extensions, clusterBits: 16 })).toBeNull();
    expect(bitmapsExtensionOf({ autoclear: AUTOCLEAR_BITMAPS, extensions: [], clusterBits: 16 })).toBeNull();
  });

  const cases: [string, (view: DataView) => void, RegExp][] = [
    ['no bitmaps', (view) => view.setUint32(0, 0), /nb_bitmaps is 0; it must be 1 to 65535/],
    ['too many', (view) => view.setUint32(0, 65536), /nb_bitmaps is 65536/],
    ['a reserved field', (view) => view.setUint32(4, 1), /reserved field .* is 0x1/],
    ['an empty directory', (view) => view.setBigUint64(8, 0n), /bitmap_directory_size is 0/],
    ['a large directory', (view) => view.setBigUint64(8, 67_107_841n), /bitmap_directory_size is 67107841/],
    ['a directory inside a cluster', (view) => view.setBigUint64(16, 8n), /bitmap_directory_offset is 0x8/],
    ['a directory at the header', (view) => view.setBigUint64(16, 0n), /bitmap_directory_offset is 0x0/],
  ];
  it.each(cases)('is refused with %s', (_, set, message) => {
    const data = encodeBitmapsExtension(extension);
    set(new DataView(data.buffer));
    expect(() => decodeBitmapsExtension(data, CLUSTER)).toThrow(message);
  });

  it('is refused with another length', () => {
    expect(() => decodeBitmapsExtension(new Uint8Array(25), CLUSTER)).toThrow(/has 25 bytes; it must have 24/);
  });
});

describe('a bitmap table', () => {
  it('comes back as it was written', () => {
    const entries = Float64Array.of(0, 1, CLUSTER, 2 ** 52, 0);
    expect(decodeBitmapTable(encodeBitmapTable(entries), CLUSTER, 'the table')).toEqual(entries);
  });

  it.each([1n << 1n, 1n << 8n, 1n << 56n, 1n << 63n, 65537n, 512n, 1n << 54n])(
    'is refused with the entry %d',
    (entry) => {
      const view = new DataView(new ArrayBuffer(16));
      view.setBigUint64(8, entry);
      expect(decodeBitmapTableEntry(view, 8, CLUSTER)).toBeNull();
      const bytes = new Uint8Array(view.buffer);
      expect(() => decodeBitmapTable(bytes, CLUSTER, 'the table')).toThrow(/entry 1 of the table is 0x/);
    },
  );
});
