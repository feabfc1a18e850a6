/** The guards of adding, changing and erasing key slots, and what is in the area afterwards. */
import { beforeAll, describe, expect, it } from 'vitest';
import { carryOut, type AreaPlan } from '../../src/crypto/key-slot-writes.js';
import { addKeySlot, changeKeySlot, eraseKeySlots } from '../../src/crypto/luks-amend.js';
import { webKeyDerivation } from '../../src/crypto/key-derivation.js';
import type { KeyTools } from '../../src/crypto/luks-key-slots.js';
import { activeSlots } from '../../src/crypto/luks-volume.js';
import { openSlots, unlock } from '../../src/crypto/luks.js';
import { MemoryStorage } from '../../src/index.js';
import { bytesOf, newArea, rejection, tools, volumeOf } from './luks-volumes.js';

const SMALL = { cipher: 'aes-128', mode: 'cbc' } as const;

/** A header area in memory, and requests on it in words. */
class TestArea {
  readonly storage: MemoryStorage;

  constructor(bytes: Uint8Array) {
    this.storage = new MemoryStorage(bytes.slice());
  }

  get volume() {
    return volumeOf(this.storage.toBytes());
  }

  get active(): number[] {
    return activeSlots(this.volume.header);
  }

  async add(passphrase: string, newPassphrase: string, options: { slot?: number; force?: boolean } = {}) {
    const request = { passphrase: bytesOf(passphrase), newPassphrase: bytesOf(newPassphrase), iterTime: 0, ...options };
    const { plan, slot } = await addKeySlot(this.volume, request, tools);
    carryOut(plan, this.storage);
    return slot;
  }

  async change(passphrase: string, newPassphrase: string) {
    const request = { passphrase: bytesOf(passphrase), newPassphrase: bytesOf(newPassphrase), iterTime: 0 };
    const { plan, slot } = await changeKeySlot(this.volume, request, tools);
    carryOut(plan, this.storage);
    return slot;
  }

  async erase(options: { slot?: number; passphrase?: string; force?: boolean }): Promise<AreaPlan> {
    const { passphrase, ...rest } = options;
    const request = passphrase === undefined ? rest : { ...rest, passphrase: bytesOf(passphrase) };
    const plan = await eraseKeySlots(this.volume, request, tools);
    carryOut(plan, this.storage);
    return plan;
  }

  async slotsOf(passphrase: string): Promise<readonly number[]> {
    return (await openSlots(this.volume, bytesOf(passphrase), tools)).slots;
  }
}

let one: TestArea;
/** Slots 0 and 2 open with `first`, 1 with `second`. */
let three: TestArea;
/** All eight slots are in use: 0 opens with `first`, the others with `second`. */
let full: TestArea;

beforeAll(async () => {
  one = new TestArea(await newArea('first', SMALL));
  three = new TestArea(one.storage.toBytes());
  await three.add('first', 'second');
  await three.add('first', 'first');
  full = new TestArea(one.storage.toBytes());
  for (let slot = 1; slot < 8; slot++) await full.add('first', 'second');
});

const copyOf = (area: TestArea): TestArea => new TestArea(area.storage.toBytes());

describe('adding a key slot', () => {
  it('takes the first free slot, or the one that is named', async () => {
    const area = copyOf(three);
    expect(await area.add('second', 'third')).toBe(3);
    expect(await area.add('third', 'fourth', { slot: 6 })).toBe(6);
    expect(area.active).toEqual([0, 1, 2, 3, 6]);
    expect(await area.slotsOf('fourth')).toEqual([6]);
  });

  it('needs a passphrase that opens the image', async () => {
    expect(await rejection(copyOf(three).add('wrong', 'third'))).toContain('does not open any of 3 key slots');
  });

  it('leaves a slot in use alone', async () => {
    expect(await rejection(copyOf(three).add('first', 'third', { slot: 1 }))).toBe(
      'BAD_ARGUMENT: key slot 1 is in use; erase it first, or overwrite it with force',
    );
  });

  it('overwrites it with force: what was there opens no more', async () => {
    const area = copyOf(three);
    expect(await area.add('first', 'third', { slot: 1, force: true })).toBe(1);
    expect(area.active).toEqual([0, 1, 2]);
    expect(await area.slotsOf('third')).toEqual([1]);
    expect(await rejection(area.slotsOf('second'))).toContain('does not open');
  });

  it('overwrites with force even the only one, or one of eight', async () => {
    const single = copyOf(one);
    await single.add('first', 'second', { slot: 0, force: true });
    expect(single.active).toEqual([0]);
    expect(await single.slotsOf('second')).toEqual([0]);
    const all = copyOf(full);
    await all.add('first', 'third', { slot: 6, force: true });
    expect(all.active.length).toBe(8);
    expect(await all.slotsOf('third')).toEqual([6]);
  });

  it('has no room when all eight are in use, force or not', async () => {
    for (const force of [false, true]) {
      expect(await rejection(copyOf(full).add('first', 'third', { force }))).toBe(
        'LIMIT: all 8 key slots are in use; erase one first',
      );
    }
  });

  it.each([-1, 8, 1.5, NaN])('knows no slot %s', async (slot) => {
    expect(await rejection(copyOf(three).add('first', 'third', { slot }))).toBe(
      `BAD_ARGUMENT: the key slot is ${slot}; it must be 0 to 7`,
    );
  });
});

describe('changing a passphrase', () => {
  it('gives the new one a free slot and erases all that the old one opens', async () => {
    const area = copyOf(three);
    expect(await area.change('first', 'new')).toBe(3);
    expect(area.active).toEqual([1, 3]);
    expect(await area.slotsOf('new')).toEqual([3]);
    expect(await rejection(area.slotsOf('first'))).toContain('does not open');
  });

  it('keeps the key', async () => {
    const area = copyOf(one);
    const before = await unlock(area.volume, bytesOf('first'), tools);
    await area.change('first', 'new');
    expect((await unlock(area.volume, bytesOf('new'), tools)).key).toEqual(before.key);
  });

  it('to the same one gives it a slot of its own with another salt', async () => {
    const area = copyOf(three);
    const salt = area.volume.header.slots[0]?.salt;
    await area.change('first', 'first');
    expect(await area.slotsOf('first')).toEqual([3]);
    expect(area.volume.header.slots[3]?.salt).not.toEqual(salt);
  });

  it('needs the old one, and a free slot', async () => {
    expect(await rejection(copyOf(three).change('wrong', 'new'))).toContain('does not open any of 3 key slots');
    expect(await rejection(copyOf(full).change('first', 'new'))).toMatch(/^LIMIT: all 8 key slots are in use/);
  });
});

describe('erasing', () => {
  it('a slot leaves the others, and of it neither salt nor material', async () => {
    const area = copyOf(three);
    const before = area.volume;
    await area.erase({ slot: 0 });
    expect(area.active).toEqual([1, 2]);
    const { iterations, salt, materialSector } = area.volume.header.slots[0]!;
    expect({ iterations, salt, materialSector }).toEqual({
      iterations: 0,
      salt: new Uint8Array(32),
      materialSector: 8,
    });
    const old = before.materials[0]!;
    const left = area.storage.toBytes().subarray(8 * 512, 8 * 512 + old.length);
    const same = left.reduce((count, byte, index) => count + (byte === old[index] ? 1 : 0), 0);
    expect(same).toBeLessThan(old.length / 100);
  });

  it('by passphrase empties all slots that it opens', async () => {
    const area = copyOf(three);
    await area.erase({ passphrase: 'first' });
    expect(area.active).toEqual([1]);
  });

  it('by slot and passphrase makes sure that they belong together', async () => {
    const area = copyOf(three);
    await area.erase({ slot: 2, passphrase: 'first' });
    expect(area.active).toEqual([0, 1]);
    expect(await rejection(area.erase({ slot: 0, passphrase: 'second' }))).toContain('does not open key slot 0');
  });

  it('refuses to take the last slot, however it is named', async () => {
    const only = 'BAD_ARGUMENT: key slot 0 is the only one in use; without it nothing reads the image again';
    expect(await rejection(copyOf(one).erase({ slot: 0 }))).toContain(only);
    expect(await rejection(copyOf(one).erase({ slot: 0, passphrase: 'first' }))).toContain(only);
    const every = 'BAD_ARGUMENT: the passphrase opens every key slot in use; without it nothing reads';
    expect(await rejection(copyOf(one).erase({ passphrase: 'first' }))).toContain(every);
    const area = copyOf(three);
    await area.erase({ passphrase: 'second' });
    expect(await rejection(area.erase({ passphrase: 'first' }))).toContain(every);
  });

  it('takes it with force', async () => {
    const bySlot = copyOf(one);
    await bySlot.erase({ slot: 0, force: true });
    expect(bySlot.active).toEqual([]);
    const byPassphrase = copyOf(one);
    await byPassphrase.erase({ passphrase: 'first', force: true });
    expect(byPassphrase.active).toEqual([]);
  });

  it('refuses a slot that is not in use, but for overwriting its material once more with force', async () => {
    const refused = 'BAD_ARGUMENT: key slot 5 is not in use';
    expect(await rejection(copyOf(three).erase({ slot: 5 }))).toBe(refused);
    expect(await rejection(copyOf(three).erase({ slot: 5, passphrase: 'first', force: true }))).toBe(refused);
    const area = copyOf(three);
    await area.erase({ slot: 5, force: true });
    expect(area.active).toEqual([0, 1, 2]);
    const at = area.volume.header.slots[5]!.materialSector * 512;
    expect(
      area.storage
        .toBytes()
        .subarray(at, at + 64_000)
        .some((byte) => byte !== 0),
    ).toBe(true);
  });

  it('needs to know what: a slot, or a passphrase that opens one', async () => {
    expect(await rejection(copyOf(three).erase({}))).toMatch(/^BAD_ARGUMENT: to erase key slots, name one, or give/);
    expect(await rejection(copyOf(three).erase({ passphrase: 'wrong' }))).toContain('does not open any of 3 key slots');
    expect(await rejection(copyOf(three).erase({ slot: 8 }))).toBe(
      'BAD_ARGUMENT: the key slot is 8; it must be 0 to 7',
    );
  });

  it('by passphrase is refused where a slot could not be tried', async () => {
    const { volume } = copyOf(three);
    const limited = { ...tools, maxDerivationWork: 4000 }; // a slot takes 2000
    expect(await rejection(eraseKeySlots(volume, { passphrase: bytesOf('first') }, limited))).toMatch(
      /^LIMIT: .*slot 2/,
    );
  });
});

describe('a slot that is made', () => {
  /** A machine of a million HMACs a second, whose time is that of its clock alone. */
  function machine(maxDerivationWork?: number): KeyTools {
    let time = 0;
    const pbkdf2: KeyTools['derivation']['pbkdf2'] = (request) => {
      time += request.iterations / 1000;
      return webKeyDerivation.pbkdf2({ ...request, iterations: Math.min(request.iterations, 1000) });
    };
    const derivation = { isNative: () => true, pbkdf2 };
    return { ...tools, derivation, now: () => time, ...(maxDerivationWork === undefined ? {} : { maxDerivationWork }) };
  }

  const adding = (area: TestArea, iterTime: number, keyTools: KeyTools) =>
    addKeySlot(area.volume, { passphrase: bytesOf('first'), newPassphrase: bytesOf('more'), iterTime }, keyTools);

  it('opens, seven times over, when it was made with the same time, and the passphrase can still be changed', async () => {
    const area = copyOf(one);
    const fast = machine();
    // 100 s at a million HMACs a second: 10^8 HMACs a slot.
    for (let slot = 1; slot < 8; slot++) {
      const { plan } = await adding(area, 100_000, fast);
      carryOut(plan, area.storage);
      expect((await openSlots(area.volume, bytesOf('more'), fast, { first: true })).slots).toHaveLength(1);
    }
    expect((await openSlots(area.volume, bytesOf('more'), fast)).slots).toEqual([1, 2, 3, 4, 5, 6, 7]);
    carryOut(await eraseKeySlots(area.volume, { slot: 7 }, fast), area.storage);
    const change = { passphrase: bytesOf('more'), newPassphrase: bytesOf('new'), iterTime: 0 };
    carryOut((await changeKeySlot(area.volume, change, fast)).plan, area.storage);
    expect(area.active).toEqual([0, 7]);
  });

  it('is refused where opening the image would pass it over, or another slot because of it', async () => {
    const area = copyOf(one);
    const fast = machine();
    expect(await rejection(adding(area, 300_000, fast))).toMatch(/^LIMIT: iterTime is 300000; it makes \d+ HMACs/);
    for (let slot = 1; slot <= 4; slot++) carryOut((await adding(area, 260_000, fast)).plan, area.storage);
    const before = area.storage.toBytes();
    expect(await rejection(adding(area, 260_000, fast))).toMatch(
      /^LIMIT: iterTime is 260000; with it the slot asks for 26000\d+ HMACs of sha256 and all slots for 1300\d+; they may ask for 268435456 each and 1073741824 in all/,
    );
    expect(await rejection(adding(area, 100_000, fast))).toMatch(/^LIMIT: iterTime is 100000; with it/);
    expect(Buffer.compare(area.storage.toBytes(), before)).toBe(0);
    carryOut((await adding(area, 10_000, fast)).plan, area.storage);
    expect((await openSlots(area.volume, bytesOf('more'), fast)).slots).toEqual([1, 2, 3, 4, 5]);
  });

  it('is made by who allows the work of it, and opens for who does', async () => {
    const area = copyOf(one);
    carryOut((await adding(area, 300_000, machine(2 ** 30))).plan, area.storage);
    const search = openSlots(area.volume, bytesOf('more'), machine(), { first: true });
    expect(await rejection(search)).toMatch(/^LIMIT: .* unless maxDerivationWork allows more$/);
    expect((await openSlots(area.volume, bytesOf('more'), machine(2 ** 30), { first: true })).slots).toEqual([1]);
  });

  it('is not made when its signal ends it before or after the old passphrase was tried', async () => {
    for (const derivations of [0, 2]) {
      const controller = new AbortController();
      let made = 0;
      const pbkdf2: KeyTools['derivation']['pbkdf2'] = (request) => {
        if (++made === derivations) controller.abort();
        return webKeyDerivation.pbkdf2(request);
      };
      if (derivations === 0) controller.abort();
      const givenUp = { ...tools, derivation: { ...webKeyDerivation, pbkdf2 }, signal: controller.signal };
      expect(await rejection(adding(copyOf(one), 0, givenUp))).toMatch(/^ABORTED: /);
      expect(made).toBe(derivations);
    }
  });
});
