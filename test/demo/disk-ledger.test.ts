/** What the demo page knows of disks that the browser may clear. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import {
  clearedBases,
  forgetDisk,
  missingDisk,
  missingDisks,
  noteSeen,
  readLedger,
} from '../../demo/src/disk-ledger.js';

const KEY = 'qcow2-wasm-demo storage seen';

let kept: Map<string, string>;

beforeEach(() => {
  kept = new Map();
  vi.stubGlobal('localStorage', {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
  });
});

/** What a look finds that sees these files. */
function files(...names: string[]): Parameters<typeof noteSeen>[0] {
  return { disks: names.map((name) => ({ name, bytes: 1024, modified: 0 })), bases: [] };
}

function missed(names: readonly string[] = []): string[] {
  return missingDisks(readLedger(), names).map(({ name }) => name);
}

describe('a ledger that was read before anything looked', () => {
  it('tells what is gone, whatever a look notes meanwhile', () => {
    noteSeen(files('disk-a.qcow2', 'disk-b.qcow2', 'incoming.qcow2'), 1000);
    const before = readLedger();
    noteSeen(files('disk-a.qcow2'), 2000);
    expect(missingDisks(before, ['disk-a.qcow2']).map(({ name }) => name)).toEqual(['disk-b.qcow2']);
    expect(missingDisk(before, 'disk-b.qcow2')).toMatchObject({ bytes: 1024, firstSeen: 1000, lastSeen: 1000 });
    expect(missed(['disk-a.qcow2']), 'the next visit misses it no more').toEqual([]);
  });

  it('does not tell of what another tab has deleted since', () => {
    noteSeen(files('disk-a.qcow2', 'disk-b.qcow2'), 1000);
    const before = readLedger();
    forgetDisk('disk-b.qcow2', 1500);
    expect(missingDisks(before, ['disk-a.qcow2'])).toEqual([]);
    expect(missingDisk(before, 'disk-b.qcow2')).toBeNull();
  });

  it('keeps when a disk was seen first', () => {
    noteSeen(files('disk-a.qcow2'), 1000);
    noteSeen(files('disk-a.qcow2'), 2000);
    expect(missingDisk(readLedger(), 'disk-a.qcow2')).toMatchObject({ firstSeen: 1000, lastSeen: 2000 });
  });
});

describe('a disk that the page deletes', () => {
  it('is not brought back by a look that began before', () => {
    noteSeen(files('disk-a.qcow2', 'disk-b.qcow2'), 1000);
    forgetDisk('disk-b.qcow2', 2000);
    noteSeen(files('disk-a.qcow2', 'disk-b.qcow2'), 1999);
    expect(missed()).toEqual(['disk-a.qcow2']);
  });

  it('is missed again once one of its name was there, and was cleared', () => {
    noteSeen(files('disk-b.qcow2'), 1000);
    forgetDisk('disk-b.qcow2', 2000);
    noteSeen(files('disk-b.qcow2'), 3000);
    expect(missed()).toEqual(['disk-b.qcow2']);
    expect(missingDisk(readLedger(), 'disk-b.qcow2')).toMatchObject({ firstSeen: 3000 });
  });

  it('leaves a mark that goes in time', () => {
    forgetDisk('disk-a.qcow2', 1000);
    forgetDisk('disk-b.qcow2', 1000 + 8 * 24 * 3600 * 1000);
    expect(readLedger().struck.map(({ name }) => name)).toEqual(['disk-b.qcow2']);
  });
});

describe('what is kept', () => {
  it('may be of an earlier version of the page, which left no marks', () => {
    const disks = [{ name: 'disk.qcow2', bytes: 1, firstSeen: 1, lastSeen: 2 }];
    kept.set(KEY, JSON.stringify({ disks, bases: [] }));
    expect(readLedger()).toEqual({ disks, bases: [], struck: [] });
  });

  it.each([
    'no JSON',
    'null',
    '{"disks":{},"bases":[]}',
    '{"disks":[{}],"bases":[]}',
    '{"disks":[],"bases":[],"struck":[{}]}',
  ])('is nothing where somebody else has put something there: %s', (text) => {
    kept.set(KEY, text);
    expect(readLedger()).toEqual({ disks: [], bases: [], struck: [] });
  });

  it('is of bases what a disk stood on; one of which most is gone was cleared', () => {
    const base = { url: 'https://a.org/linux.qcow2', identity: 'one', presentBytes: 1000, inUse: true };
    const seen = { disks: [], bases: [base, { ...base, identity: 'two', inUse: false }] };
    noteSeen(seen as unknown as Parameters<typeof noteSeen>[0], 1000);
    const now = (presentBytes: number): Parameters<typeof clearedBases>[1] =>
      [{ ...base, presentBytes }] as unknown as Parameters<typeof clearedBases>[1];
    expect(clearedBases(readLedger(), now(500))).toEqual([]);
    expect(clearedBases(readLedger(), now(499)).map(({ identity }) => identity)).toEqual(['one']);
    expect(clearedBases(readLedger(), []).map(({ identity }) => identity)).toEqual(['one']);
  });
});
