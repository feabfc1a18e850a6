/**
 * The order of writes under the crash model of `test/crash/`: of what lies between two barriers any part may be lost, torn at
 * 512 bytes. Proved for each change, with slots on both sides of the first sector's end and on it:
 *
 * - a slot that reads as active has an entry and material that belong together: it opens
 * - some slot that was active before or is to be active afterwards is active
 * - all slots that the change does not name are as they were
 * - after the last barrier nothing of the old material is left
 */
import { describe, expect, it } from 'vitest';
import { carryOut, clearSlots, fillSlot, replaceSlot, type AreaPlan } from '../../src/crypto/key-slot-writes.js';
import type { MadeKeySlot } from '../../src/crypto/luks-key-slots.js';
import type { LuksVolume } from '../../src/crypto/luks-volume.js';
import {
  KEY_SLOTS,
  emptyKeySlot,
  encodeLuksHeader,
  newMaterialSector,
  type LuksHeader,
} from '../../src/format/luks-header.js';
import { crashStates } from '../crash/crash-states.js';
import { RecordingStorage } from '../crash/recording-storage.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { volumeOf } from './luks-volumes.js';

const KEY_BYTES = 16;
const MATERIAL_BYTES = KEY_BYTES * 4000;
const STATES = 250;

/** Slots that nobody derived: what one holds is known by its mark, 1 or more. */
const madeSlots: readonly MadeKeySlot[] = Array.from({ length: 16 }, (_, mark) => ({
  iterations: mark * 0x0101_0101,
  salt: new Uint8Array(32).fill(mark),
  material: new Uint8Array(MATERIAL_BYTES).map((__, index) => mark + 16 * (index % 13)),
}));
const madeSlot = (mark: number): MadeKeySlot => madeSlots[mark]!;

/** An area in which slot `n` of `active` holds `madeSlot(n + 1)`. */
function areaWith(active: readonly number[]): Uint8Array {
  const slots = Array.from({ length: KEY_SLOTS }, (_, index) => {
    const empty = emptyKeySlot(newMaterialSector(index, KEY_BYTES));
    const { iterations, salt } = madeSlot(index + 1);
    return active.includes(index) ? { ...empty, active: true, iterations, salt } : empty;
  });
  const header: LuksHeader = {
    cipherName: 'aes',
    cipherMode: 'cbc-plain64',
    hash: 'sha256',
    payloadSector: newMaterialSector(KEY_SLOTS, KEY_BYTES),
    keyBytes: KEY_BYTES,
    keyDigest: new Uint8Array(20),
    keyDigestSalt: new Uint8Array(32),
    keyDigestIterations: 1000,
    uuid: '',
    slots,
  };
  const area = new Uint8Array(header.payloadSector * 512);
  area.set(encodeLuksHeader(header));
  for (const index of active) area.set(madeSlot(index + 1).material, slots[index]!.materialSector * 512);
  return area;
}

/** The mark of what slot `index` holds, whole; null if it is not active. Throws for an active slot that would not open. */
function markOf({ header, materials }: LuksVolume, index: number): number | null {
  const slot = header.slots[index]!;
  if (!slot.active) return null;
  const mark = slot.salt[0]!;
  const made = madeSlot(mark);
  const whole =
    slot.iterations === made.iterations &&
    Buffer.compare(slot.salt, made.salt) === 0 &&
    Buffer.compare(materials[index]!, made.material) === 0;
  if (!whole) throw new Error(`slot ${index} is active and not whole`);
  return mark;
}

const marksOf = (volume: LuksVolume): (number | null)[] => volume.header.slots.map((_, index) => markOf(volume, index));

const NEW_MARK = 13;
const made = madeSlot(NEW_MARK);

interface Change {
  readonly title: string;
  readonly active: readonly number[];
  readonly plan: (header: LuksHeader) => AreaPlan;
  /** What the slots hold afterwards, by number; the others stay. */
  readonly after: Readonly<Record<number, number | null>>;
  /** Slots beside those that may be used on the way. */
  readonly passing?: readonly number[];
}

const CHANGES: readonly Change[] = [
  ...[1, 5, 6, 7].map((slot) => ({
    title: `filling slot ${slot}`,
    active: [0],
    plan: (header: LuksHeader) => fillSlot(header, slot, made),
    after: { [slot]: NEW_MARK },
  })),
  ...[0, 6, 7].map((slot) => ({
    title: `clearing slot ${slot}`,
    active: [0, 3, 6, 7],
    plan: (header: LuksHeader) => clearSlots(header, [slot]),
    after: { [slot]: null },
  })),
  {
    title: 'clearing slots 0, 6 and 7 at once',
    active: [0, 3, 6, 7],
    plan: (header) => clearSlots(header, [0, 6, 7]),
    after: { 0: null, 6: null, 7: null },
  },
  {
    title: 'a change of passphrase from slot 6 to slot 0',
    active: [6],
    plan: (header) => [...fillSlot(header, 0, made), ...clearSlots(header, [6])],
    after: { 0: NEW_MARK, 6: null },
  },
  {
    title: 'a change of passphrase from slot 0 to slot 6',
    active: [0, 1, 2, 3, 4, 5],
    plan: (header) => [...fillSlot(header, 6, made), ...clearSlots(header, [0])],
    after: { 0: null, 6: NEW_MARK },
  },
  {
    title: 'replacing slot 0, the only one',
    active: [0],
    plan: (header) => replaceSlot(header, 0, made),
    after: { 0: NEW_MARK },
    passing: [1],
  },
  {
    title: 'replacing slot 6 by way of slot 0',
    active: [6],
    plan: (header) => replaceSlot(header, 6, made),
    after: { 6: NEW_MARK },
    passing: [0],
  },
  {
    title: 'replacing slot 6 of eight',
    active: [0, 1, 2, 3, 4, 5, 6, 7],
    plan: (header) => replaceSlot(header, 6, made),
    after: { 6: NEW_MARK },
  },
];

describe.each(CHANGES)('$title', ({ title, active, plan, after, passing = [] }) => {
  const start = areaWith(active);
  const { header } = volumeOf(start);
  const before = marksOf(volumeOf(start));
  const wanted = before.map((mark, index) => (index in after ? after[index]! : mark));

  const recorded = (): RecordingStorage => {
    const storage = new RecordingStorage(start);
    carryOut(plan(header), storage);
    return storage;
  };

  it('ends with every slot as it should be, all of it stable', () => {
    const storage = recorded();
    const bytes = new Uint8Array(storage.size);
    storage.read(0, bytes);
    expect(marksOf(volumeOf(bytes))).toEqual(wanted);
    expect(storage.events.at(-1)?.kind).toBe('flush');
    expect(storage.size).toBe(start.length);
    for (const slot of active.filter((index) => wanted[index] !== before[index])) {
      const at = header.slots[slot]!.materialSector * 512;
      const left = bytes.subarray(at, at + MATERIAL_BYTES);
      const old = madeSlot(slot + 1).material;
      const same = left.reduce((count, byte, index) => count + (byte === old[index] ? 1 : 0), 0);
      expect(same, `bytes of the old material in slot ${slot}`).toBeLessThan(MATERIAL_BYTES / 8);
    }
  });

  it('leaves, wherever it is interrupted, slots that open, and one of those that count', async () => {
    await withSeed(title, seedOfThisRun(active.length), (random) => {
      const { events } = recorded();
      for (const state of crashStates(start, events, { count: STATES, near: [] }, random)) {
        const marks = marksOf(volumeOf(state.file));
        marks.forEach((mark, index) => {
          const allowed = [before[index], wanted[index], ...(index in after ? [null] : [])];
          if (passing.includes(index)) allowed.push(NEW_MARK);
          expect(allowed, `slot ${index}`).toContain(mark);
        });
        // An old passphrase, at its place, or the new one.
        expect(marks.some((mark, index) => mark === NEW_MARK || (mark !== null && mark === before[index]))).toBe(true);
      }
    });
  });
});

describe('the model of these tests', () => {
  it('notices an active slot whose material or entry is not whole', () => {
    const area = areaWith([0, 6]);
    const torn = area.slice();
    torn[8 * 512 + 5000]! ^= 1;
    expect(() => marksOf(volumeOf(torn))).toThrow('slot 0 is active and not whole');
    const salted = area.slice();
    salted[520]! ^= 1; // the part of slot 6 in the second sector
    expect(() => marksOf(volumeOf(salted))).toThrow('slot 6 is active and not whole');
  });
});
