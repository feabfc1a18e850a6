/**
 * A repair that is cut off: what is left of its writes, any part of the unstable ones lost or torn at 512 bytes, is no worse
 * than before. A second repair comes to the same end, and neither the disk nor the snapshot has lost anything.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { MemoryStorage, openImage } from '../../src/index.js';
import { checkImage, checkVerdict, type CheckResult, type Repair } from '../../src/operations/check/check-image.js';
import type { Storage } from '../../src/storage/storage.js';
import { crashStates } from '../crash/crash-states.js';
import { RecordingStorage } from '../crash/recording-storage.js';
import { SeededRandom } from '../support/seeded-random.js';
import { OTHER_DAMAGES, REFCOUNT_DAMAGES, REFCOUNT_TABLE_DAMAGES, TABLE_DAMAGES, type Damage } from './damages.js';
import { inTemporaryDirectory, qemuBytes } from './qemu.js';
import { checkByQemu, damaged, makeSound } from './repair.js';

const STATES = 40;
/** Of these, how many QEMU looks at as well. */
const BY_QEMU = 4;

/** Those that a repair can put right without losing data. */
const REPAIRABLE = [
  'a refcount too high',
  'a refcount of one, used twice',
  'a refcount of zero on an L2 table',
  'a refcount block all ones',
  'a lost refcount block',
  'a refcount table entry with reserved bits',
  'two refcount table entries on one block',
  'the refcount table on the L1 table',
  'COPIED wrong in a whole table',
  'a table of zero clusters off a cluster',
  'a snapshot without the extra data of version 3',
  'a snapshot with too much extra data',
  'the dirty bit and refcounts of zero',
];

function run(storage: Storage, repair: Repair): CheckResult {
  const job = checkImage(storage, { repair });
  for (;;) {
    const { done, value } = job.next();
    if (done) return value;
  }
}

function contentOf(file: Uint8Array): Uint8Array {
  const image = openImage(new MemoryStorage(file.slice()), { readOnly: true });
  const bytes = new Uint8Array(image.size);
  image.read(0, bytes);
  image.close();
  return bytes;
}

async function crashRepair(damage: Damage): Promise<void> {
  await inTemporaryDirectory((path) => {
    makeSound(path('sound'), damage);
    damaged(path('sound'), path('image'), damage);
    const content = qemuBytes(path('sound'));
    const snapshot = qemuBytes(path('sound'), { snapshot: 'before' });
    const storage = new RecordingStorage(readFileSync(path('image')));
    expect(checkVerdict(run(storage, 'all')), 'the repair that is not cut off').toBe(0);
    let number = 0;
    const choice = { count: STATES, near: [] };
    for (const { at, keeping, file } of crashStates(storage.start, storage.events, choice, new SeededRandom(7))) {
      const state = `cut off after ${at} events, keeping ${keeping}`;
      expect(Buffer.compare(contentOf(file), content), `the disk, ${state}`).toBe(0);
      const again = new MemoryStorage(file);
      expect(checkVerdict(run(again, 'all')), `the second repair, ${state}`).toBe(0);
      expect(Buffer.compare(contentOf(again.toBytes()), content), `the disk repaired, ${state}`).toBe(0);
      if (number++ % (STATES / BY_QEMU) !== 0) continue;
      writeFileSync(path('again'), again.toBytes());
      expect(checkByQemu(path('again'))?.verdict, `QEMU, ${state}`).toBe(0);
      expect(Buffer.compare(qemuBytes(path('again'), { snapshot: 'before' }), snapshot), `the snapshot, ${state}`).toBe(
        0,
      );
    }
  });
}

describe('a repair that is cut off leaves an image that can be repaired, with all its data', () => {
  const rows = [...REFCOUNT_DAMAGES, ...REFCOUNT_TABLE_DAMAGES, ...TABLE_DAMAGES, ...OTHER_DAMAGES];
  for (const what of REPAIRABLE) {
    it(what, () => {
      const damage = rows.find((row) => row.what === what);
      if (damage === undefined) throw new Error(`no such row: ${what}`);
      return crashRepair(damage);
    });
  }
});
