import { describe, expect, test } from 'vitest';
import { createImage } from '../../../src/image/create.js';
import { openImage } from '../../../src/image/open.js';
import { checkImage, type CheckEvent, type CheckOptions } from '../../../src/operations/check/check-image.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import { viewOf } from '../../../src/util/big-endian.js';
import { runToEnd } from '../../../src/util/steps.js';

const CLUSTER = 512;

/** Header, refcount table, refcount block, L1 table, then what the guest wrote: a cluster, and the L2 table that names it. */
function imageWithData(): MemoryStorage {
  const storage = new MemoryStorage();
  createImage(storage, { size: 65536, clusterSize: CLUSTER });
  const image = openImage(storage);
  image.write(0, new Uint8Array(CLUSTER).fill(1));
  image.close();
  return storage;
}

function setRefcount(storage: MemoryStorage, cluster: number, count: number): void {
  const bytes = new Uint8Array(2);
  viewOf(bytes).setUint16(0, count);
  storage.write(2 * CLUSTER + cluster * 2, bytes);
}

/** The facts of each event, with what was done. */
function eventsOf(storage: MemoryStorage, options: CheckOptions): unknown[] {
  const events: CheckEvent[] = [];
  runToEnd(checkImage(storage, { ...options, onEvent: (event) => events.push(event) }));
  return events.map((event) => (event.event === 'rebuild' ? 'rebuild' : [event.event, event.finding.facts]));
}

describe('a listener', () => {
  test('hears of a leak when it is found, and when it is repaired', () => {
    const storage = imageWithData();
    setRefcount(storage, 5, 2);
    const leak = { fact: 'refcount', cluster: 5, recorded: 2, counted: 1 };
    expect(eventsOf(storage, {})[0]).toEqual(['found', leak]);
    const repaired = eventsOf(storage, { repair: 'all' });
    expect(repaired.slice(0, 2)).toEqual([
      ['found', leak],
      ['repaired', leak],
    ]);
    expect(eventsOf(storage, {})).toEqual([]);
  });

  test('hears of wrong COPIED flags with the entry as it is', () => {
    const storage = imageWithData();
    const entry = new Uint8Array(8);
    storage.read(3 * CLUSTER, entry);
    entry[0] = 0;
    storage.write(3 * CLUSTER, entry);
    const facts = { fact: 'copied-l1', index: 0, entry: viewOf(entry).getBigUint64(0), refcount: 1 };
    expect(eventsOf(storage, {})).toEqual([['found', facts]]);
    expect(eventsOf(storage, { repair: 'all' })).toEqual([['repaired', facts]]);
  });

  test('hears of everything, where the list of findings is cut', () => {
    const storage = new MemoryStorage();
    createImage(storage, { size: 65536, clusterSize: 4096 });
    const image = openImage(storage);
    image.close();
    storage.truncate(2000 * 4096);
    const counts = new Uint8Array(2 * 1900).fill(0);
    for (let index = 0; index < 1900; index++) viewOf(counts).setUint16(index * 2, 1);
    storage.write(2 * 4096 + 10 * 2, counts);
    const result = runToEnd(checkImage(storage));
    expect([result.findings.length, result.findingsTotal]).toEqual([1000, 1900]);
    expect(eventsOf(storage, {})).toHaveLength(1900);
  });
});

describe('a cluster in use that is recorded as free', () => {
  test('has its count set, as a rule', () => {
    const storage = imageWithData();
    setRefcount(storage, 5, 0);
    const lost = { fact: 'refcount', cluster: 5, recorded: 0, counted: 1 };
    const events = eventsOf(storage, { repair: 'all' });
    expect(events).not.toContain('rebuild');
    expect(events).toContainEqual(['repaired', lost]);
    expect(eventsOf(storage, {})).toEqual([]);
  });

  test('has the whole structure built anew with rebuildMissing, and the old one freed', () => {
    const storage = imageWithData();
    setRefcount(storage, 5, 0);
    const events = eventsOf(storage, { repair: 'all', rebuildMissing: true });
    expect(events).toContain('rebuild');
    const freed = (cluster: number) => ['repaired', { fact: 'refcount', cluster, recorded: 1, counted: 0 }];
    expect(events).toContainEqual(freed(1));
    expect(events).toContainEqual(freed(2));
    expect(eventsOf(storage, {})).toEqual([]);
  });
});
