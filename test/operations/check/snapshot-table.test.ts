/** What a check makes of a snapshot table that is out of its limits, and refcounts larger than a number can be. */
import { describe, expect, it } from 'vitest';
import {
  createImage,
  createSnapshot,
  listSnapshots,
  MemoryStorage,
  openImage,
  runToEnd,
  type CreateOptions,
} from '../../../src/index.js';
import {
  checkImage,
  checkVerdict,
  type CheckEvent,
  type FindingFacts,
} from '../../../src/operations/check/check-image.js';
import { Qcow2Bytes } from '../../support/qcow2-bytes.js';

const CLUSTER = 4096;
const SNAPSHOT_COUNT_AT = 60;
const SNAPSHOTS_AT = 64;
/** As the format's limits have it. */
const MOST_TABLE_BYTES = 64 * 2 ** 20;

function withSnapshots(names: readonly string[], options: Partial<CreateOptions> = {}): Qcow2Bytes {
  const storage = new MemoryStorage();
  createImage(storage, { size: 0x10_0000, clusterSize: CLUSTER, ...options });
  const image = openImage(storage);
  for (const name of names) {
    image.write(0, new Uint8Array(20_000).fill(name.length));
    createSnapshot(image, { name });
  }
  image.close();
  return new Qcow2Bytes(storage.toBytes());
}

/** Puts a table of `count` entries at the end of the file. The first refcount block must have room to count it. */
function appendTable(file: Qcow2Bytes, table: Uint8Array, count: number): void {
  const at = file.append(table);
  for (let host = at; host < at + table.length; host += file.clusterSize) file.setRefcount(host, 1);
  file.setBits(SNAPSHOTS_AT, BigInt(at));
  file.setU32(SNAPSHOT_COUNT_AT, count);
}

/** Entries of the greatest names: 132 KiB each. */
function longEntries(count: number): Uint8Array {
  const entry = Buffer.alloc(40 + 1024 + 2 * 65_535 + 2);
  entry.writeUInt32BE(0xffff_ffff, 12);
  entry.writeUInt32BE(1024, 36);
  const table = Buffer.alloc(count * entry.length);
  for (let index = 0; index < count; index++) entry.copy(table, index * entry.length);
  return table;
}

interface Damage {
  readonly title: string;
  readonly make: () => Qcow2Bytes;
  readonly says: RegExp;
  readonly facts: FindingFacts;
  /** Null for what can't be mended. */
  readonly mended: { readonly corruptions: number; readonly snapshots: number } | null;
}

const DAMAGES: readonly Damage[] = [
  {
    title: 'off a cluster',
    make: () => {
      const file = withSnapshots(['a']);
      file.setBits(SNAPSHOTS_AT, BigInt(file.snapshotsOffset + 512));
      return file;
    },
    says: /the snapshot table is at 0x[0-9a-f]+, not at a cluster's start/,
    facts: { fact: 'snapshots-unread', flaw: 'place' },
    mended: null,
  },
  {
    title: 'of too many entries',
    make: () => {
      const file = withSnapshots([], { version: 2 });
      appendTable(file, new Uint8Array(40 * 65_536), 65_536 + 7);
      return file;
    },
    says: /7 snapshots are more than the limit of 65536/,
    facts: { fact: 'snapshots-unread', flaw: 'too-many', beyond: 7 },
    mended: { corruptions: 7, snapshots: 65_536 },
  },
  {
    title: 'with too much extra data',
    make: () => {
      const file = withSnapshots(['a', 'b']);
      file.setU32(file.snapshotsOffset + 72 + 36, 2000);
      return file;
    },
    says: /entry 1 of the snapshot table has 2000 bytes of extra data; the limit is 1024/,
    facts: { fact: 'snapshots-unread', flaw: 'extra-data', index: 1, bytes: 2000 },
    mended: { corruptions: 1, snapshots: 2 },
  },
  {
    title: 'that is too long',
    make: () => {
      const file = withSnapshots([], { clusterSize: 65_536 });
      appendTable(file, longEntries(509), 509);
      return file;
    },
    says: new RegExp(`2 snapshots lie past ${MOST_TABLE_BYTES} bytes`),
    facts: { fact: 'snapshots-unread', flaw: 'too-long', beyond: 2 },
    mended: { corruptions: 2, snapshots: 507 },
  },
];

describe('a snapshot table', () => {
  for (const { title, make, says, facts, mended } of DAMAGES) {
    it(`${title} is not followed by a check, which says why and looks no farther`, () => {
      const storage = new MemoryStorage(make().bytes);
      const before = storage.toBytes();
      for (const repair of ['none', 'leaks'] as const) {
        const result = runToEnd(checkImage(storage, { repair }));
        expect(checkVerdict(result)).toBe(1);
        expect(result).toMatchObject({ checkErrors: 1, corruptions: 0, leaks: 0, findingsTotal: 1 });
        expect(result.remaining).toMatchObject([{ kind: 'snapshot-table', facts }]);
        expect(result.remaining[0]!.message).toMatch(says);
      }
      expect(Buffer.compare(storage.toBytes(), before)).toBe(0);
    });

    if (mended === null) continue;
    it(`${title} is mended, and what it led to is freed`, () => {
      const storage = new MemoryStorage(make().bytes);
      const events: CheckEvent[] = [];
      const result = runToEnd(checkImage(storage, { repair: 'all', onEvent: (event) => events.push(event) }));
      expect(checkVerdict(result)).toBe(0);
      const [first] = events;
      expect(first?.event).toBe('repaired');
      expect(result.corruptionsFixed).toBeGreaterThanOrEqual(mended.corruptions);
      const image = openImage(storage, { readOnly: true });
      expect(listSnapshots(image)).toHaveLength(mended.snapshots);
    });
  }

  it('that is too long only as long as an entry has too much extra data loses no entry', () => {
    const file = withSnapshots([], { clusterSize: 65_536 });
    const table = Buffer.from(longEntries(508));
    // The bytes of the entry behind it are taken for its own.
    table.writeUInt32BE(1024 + 132_136, 36);
    appendTable(file, table, 507);
    const storage = new MemoryStorage(file.bytes);
    const result = runToEnd(checkImage(storage, { repair: 'all' }));
    expect(checkVerdict(result)).toBe(0);
    expect(listSnapshots(openImage(storage, { readOnly: true }))).toHaveLength(507);
  });
});

describe('a refcount that no number holds', () => {
  const LARGEST = 2n ** 64n - 1n;

  function withLargest(): Qcow2Bytes {
    const storage = new MemoryStorage();
    createImage(storage, { size: 0x10_0000, clusterSize: CLUSTER, refcountBits: 64 });
    const image = openImage(storage);
    image.write(0, new Uint8Array(CLUSTER).fill(1));
    image.close();
    const file = new Qcow2Bytes(storage.toBytes());
    file.setBits(file.refcountBlock(0) + (file.hostOf(0) / CLUSTER) * 8, LARGEST);
    return file;
  }

  it('is told of as it is, with the cluster and with the flag that does not fit it', () => {
    const file = withLargest();
    const { findings } = runToEnd(checkImage(new MemoryStorage(file.bytes)));
    const cluster = file.hostOf(0) / CLUSTER;
    expect(findings).toMatchObject([
      { kind: 'leak', facts: { fact: 'refcount', cluster, recorded: LARGEST, counted: 1 } },
      { kind: 'copied-flag', facts: { fact: 'copied-l2', refcount: LARGEST } },
    ]);
    for (const { message } of findings) expect(message).toContain('18446744073709551615');
  });

  it('is told of as it is where one more reference does not fit', () => {
    const image = openImage(new MemoryStorage(withLargest().bytes));
    expect(() => createSnapshot(image, { name: 'a' })).toThrow(
      /has refcount 18446744073709551615 and would have 18446744073709551616/,
    );
    image.close();
  });

  it('is one that was counted once after the repair', () => {
    const storage = new MemoryStorage(withLargest().bytes);
    expect(checkVerdict(runToEnd(checkImage(storage, { repair: 'all' })))).toBe(0);
  });
});
