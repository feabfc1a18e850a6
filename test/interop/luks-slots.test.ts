/** Key slots changed in turns: what one tool adds or erases the other sees, and both refuse the same. */
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { carryOut } from '../../src/crypto/key-slot-writes.js';
import { addKeySlot, changeKeySlot, eraseKeySlots } from '../../src/crypto/luks-amend.js';
import { activeSlots } from '../../src/crypto/luks-volume.js';
import { openSlots, unlock } from '../../src/crypto/luks.js';
import { MemoryStorage } from '../../src/index.js';
import { bytesOf, newArea, rejection, tools, volumeOf } from '../crypto/luks-volumes.js';
import { decryptedByQemu, encryptedImage, qemuImgWith, qemuRefusal } from './qemu-secrets.js';
import { inTemporaryDirectory, qemuImg } from './qemu.js';

/** Secret objects are named as what they hold. */
const SECRETS = { first: 'first', second: 'second', third: 'third', wrong: 'wrong' };
type Passphrase = keyof typeof SECRETS;

/** A file in QEMU's `luks` format, with no disk behind its header. */
class LuksFile {
  constructor(readonly path: string) {}

  get #storage(): MemoryStorage {
    return new MemoryStorage(new Uint8Array(readFileSync(this.path)));
  }

  get volume() {
    return volumeOf(this.#storage.toBytes());
  }

  /** Carries out what one of our functions plans. */
  async ours(plan: ReturnType<typeof eraseKeySlots> | ReturnType<typeof addKeySlot>): Promise<void> {
    const planned = await plan;
    const storage = this.#storage;
    carryOut('plan' in planned ? planned.plan : planned, storage);
    writeFileSync(this.path, storage.toBytes());
  }

  /** `qemu-img amend -o options`, with `opener` to open the file. */
  qemu(opener: Passphrase, options: string, ...flags: string[]): void {
    qemuImgWith(SECRETS, 'amend', ...flags, ...encryptedImage('luks', this.path, opener), '-o', options);
  }

  qemuRefuses(opener: Passphrase, options: string, ...flags: string[]): string {
    return qemuRefusal(SECRETS, 'amend', ...flags, ...encryptedImage('luks', this.path, opener), '-o', options);
  }

  /** The slots in use: as QEMU sees them, which must be as we do. */
  get active(): number[] {
    const printed = qemuImg('info', '--output=json', '-f', 'luks', this.path);
    const info = JSON.parse(printed) as { 'format-specific': { data: { slots: { active: boolean }[] } } };
    const { slots } = info['format-specific'].data;
    const active = slots.flatMap((slot, index) => (slot.active ? [index] : []));
    const ours = activeSlots(this.volume.header);
    if (String(ours) !== String(active)) throw new Error(`slots in use are ${ours} for us, ${active} for QEMU`);
    return active;
  }

  /** The slots that a passphrase opens, with us; QEMU must open the file with it exactly if there are any. */
  async slotsOf(passphrase: Passphrase): Promise<readonly number[]> {
    const opened = await openSlots(this.volume, bytesOf(passphrase), tools).catch(String);
    if (typeof opened !== 'string') {
      decryptedByQemu('luks', this.path, passphrase);
      return opened.slots;
    }
    if (!opened.includes('does not open')) throw new Error(opened);
    const complaint = qemuRefusal(
      SECRETS,
      'convert',
      '-O',
      'raw',
      ...encryptedImage('luks', this.path, passphrase),
      '-',
    );
    if (!complaint.includes('Invalid password, cannot unlock any keyslot')) throw new Error(complaint);
    return [];
  }
}

/** A new file that `first` opens, made by us. */
async function withFile(body: (file: LuksFile) => Promise<void>): Promise<void> {
  await inTemporaryDirectory(async (path) => {
    const file = new LuksFile(path('slots.luks'));
    writeFileSync(file.path, await newArea('first', { cipher: 'aes-128', mode: 'cbc' }));
    await body(file);
  });
}

const add = (newPassphrase: Passphrase, options: { slot?: number; force?: boolean } = {}) => ({
  passphrase: bytesOf('first'),
  newPassphrase: bytesOf(newPassphrase),
  iterTime: 0,
  ...options,
});

describe('key slots', () => {
  it('added by QEMU open with us, and the other way round', async () => {
    await withFile(async (file) => {
      file.qemu('first', 'state=active,new-secret=second,iter-time=0');
      file.qemu('second', 'state=active,new-secret=third,keyslot=6,iter-time=0');
      await file.ours(addKeySlot(file.volume, add('first', { slot: 7 }), tools));
      await file.ours(addKeySlot(file.volume, add('third'), tools));
      expect(file.active).toEqual([0, 1, 2, 6, 7]);
      expect(await file.slotsOf('first')).toEqual([0, 7]);
      expect(await file.slotsOf('second')).toEqual([1]);
      expect(await file.slotsOf('third')).toEqual([2, 6]);
      expect((await unlock(file.volume, bytesOf('third'), tools)).key).toEqual(
        (await unlock(file.volume, bytesOf('first'), tools)).key,
      );
    });
  });

  it('erased by one are gone for the other', async () => {
    await withFile(async (file) => {
      for (const passphrase of ['second', 'third', 'second'] as const) {
        await file.ours(addKeySlot(file.volume, add(passphrase), tools));
      }
      file.qemu('first', 'state=inactive,old-secret=second');
      expect(file.active).toEqual([0, 2]);
      expect(await file.slotsOf('second')).toEqual([]);
      await file.ours(eraseKeySlots(file.volume, { passphrase: bytesOf('third') }, tools));
      expect(file.active).toEqual([0]);
      expect(await file.slotsOf('third')).toEqual([]);
      expect(await file.slotsOf('first')).toEqual([0]);
    });
  });

  it('overwritten with force, or changed, by us open for QEMU', async () => {
    await withFile(async (file) => {
      await file.ours(addKeySlot(file.volume, add('second', { slot: 0, force: true }), tools));
      expect(file.active).toEqual([0]);
      expect(await file.slotsOf('first')).toEqual([]);
      expect(await file.slotsOf('second')).toEqual([0]);
      const change = { passphrase: bytesOf('second'), newPassphrase: bytesOf('third'), iterTime: 0 };
      await file.ours(changeKeySlot(file.volume, change, tools));
      expect(await file.slotsOf('second')).toEqual([]);
      expect(await file.slotsOf('third')).toEqual([1]);
    });
  });

  it('all in use: neither adds one, with force or without', async () => {
    await withFile(async (file) => {
      for (let slot = 1; slot < 8; slot++) await file.ours(addKeySlot(file.volume, add('second'), tools));
      for (const force of [false, true]) {
        const options = 'state=active,new-secret=third,iter-time=0';
        const complaint = file.qemuRefuses('first', options, ...(force ? ['--force'] : []));
        expect(complaint).toContain("Can't add a keyslot - all keyslots are in use");
        expect(await rejection(addKeySlot(file.volume, add('third', { force }), tools))).toMatch(/^LIMIT: all 8/);
      }
      file.qemu('first', 'state=active,new-secret=third,iter-time=0,keyslot=7', '--force');
      expect(await file.slotsOf('third')).toEqual([7]);
      await file.ours(eraseKeySlots(file.volume, { passphrase: bytesOf('second') }, tools));
      expect(file.active).toEqual([0, 7]);
    });
  });
});

interface Refusal {
  readonly what: string;
  readonly options: string;
  readonly force?: boolean;
  readonly complaint: string;
  readonly ours: (file: LuksFile) => Promise<unknown>;
  readonly message: RegExp;
}

const wrong = bytesOf('wrong');
const first = bytesOf('first');

/** Of a file with slot 0 for `first`, 1 for `second`, 2 for `first`. */
const REFUSALS: readonly Refusal[] = [
  {
    what: 'adding to a slot in use',
    options: 'state=active,new-secret=third,keyslot=1,iter-time=0',
    complaint: 'Refusing to overwrite active keyslot 1',
    ours: (file) => addKeySlot(file.volume, add('third', { slot: 1 }), tools),
    message: /^BAD_ARGUMENT: key slot 1 is in use; erase it first, or overwrite it with force/,
  },
  {
    what: 'adding to a slot that there is not',
    options: 'state=active,new-secret=third,keyslot=8,iter-time=0',
    complaint: 'Invalid keyslot 8 specified, must be between 0 and 7',
    ours: (file) => addKeySlot(file.volume, add('third', { slot: 8 }), tools),
    message: /^BAD_ARGUMENT: the key slot is 8; it must be 0 to 7/,
  },
  {
    what: 'erasing nothing in particular',
    options: 'state=inactive',
    complaint: 'To erase keyslot(s), either explicit keyslot index or the password',
    ours: (file) => eraseKeySlots(file.volume, {}, tools),
    message: /^BAD_ARGUMENT: to erase key slots, name one, or give the passphrase/,
  },
  {
    what: 'erasing what no slot opens with',
    options: 'state=inactive,old-secret=wrong',
    complaint: 'No keyslots match given (old) password',
    ours: (file) => eraseKeySlots(file.volume, { passphrase: wrong }, tools),
    message: /the passphrase does not open any of 3 key slots/,
  },
  {
    what: 'erasing a slot that is not in use',
    options: 'state=inactive,keyslot=5',
    complaint: 'Given keyslot 5 is already erased (inactive)',
    ours: (file) => eraseKeySlots(file.volume, { slot: 5 }, tools),
    message: /^BAD_ARGUMENT: key slot 5 is not in use/,
  },
  {
    what: 'erasing a slot with the passphrase of another, even with force',
    options: 'state=inactive,keyslot=1,old-secret=first',
    force: true,
    complaint: "Given keyslot 1 doesn't contain the given old password",
    ours: (file) => eraseKeySlots(file.volume, { slot: 1, passphrase: first, force: true }, tools),
    message: /the passphrase does not open key slot 1/,
  },
];

describe('what QEMU refuses, we refuse', () => {
  it.each(REFUSALS)('$what', async ({ options, force = false, complaint, ours, message }) => {
    await withFile(async (file) => {
      await file.ours(addKeySlot(file.volume, add('second'), tools));
      await file.ours(addKeySlot(file.volume, add('first'), tools));
      expect(file.qemuRefuses('first', options, ...(force ? ['--force'] : []))).toContain(complaint);
      expect(await rejection(ours(file))).toMatch(message);
      expect(file.active).toEqual([0, 1, 2]);
    });
  });

  it('taking the last slot, by number or by passphrase; with force both take it', async () => {
    await withFile(async (file) => {
      const refuses = (options: string) => file.qemuRefuses('first', options);
      expect(refuses('state=inactive,keyslot=0')).toContain('Attempt to erase the only active keyslot 0');
      expect(await rejection(eraseKeySlots(file.volume, { slot: 0 }, tools))).toContain('the only one in use');
      await file.ours(addKeySlot(file.volume, add('first'), tools));
      expect(refuses('state=inactive,old-secret=first')).toContain('All the active keyslots match the (old) password');
      const byPassphrase = { passphrase: first };
      expect(await rejection(eraseKeySlots(file.volume, byPassphrase, tools))).toContain('every key slot in use');
      const before = readFileSync(file.path);
      file.qemu('first', 'state=inactive,old-secret=first', '--force');
      expect(file.active).toEqual([]);
      writeFileSync(file.path, before);
      await file.ours(eraseKeySlots(file.volume, { ...byPassphrase, force: true }, tools));
      expect(file.active).toEqual([]);
    });
  });

  it('not overwriting an empty slot once more, with force: both do it', async () => {
    await withFile(async (file) => {
      file.qemu('first', 'state=inactive,keyslot=3', '--force');
      await file.ours(eraseKeySlots(file.volume, { slot: 4, force: true }, tools));
      expect(await file.slotsOf('first')).toEqual([0]);
    });
  });
});
