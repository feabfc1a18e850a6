/** Passphrases of an open image: which open it after each change, what is refused, and what a guest does meanwhile. */
import { describe, expect, it } from 'vitest';
import {
  addPassphrase,
  changePassphrase,
  checkImage,
  erasePassphrase,
  imageInfo,
  MemoryStorage,
  openImage,
  runToEnd,
  unlockImage,
  type Qcow2Image,
} from '../../src/index.js';
import { cryptoAreaOf } from '../../src/format/header.js';
import { rejection } from '../crypto/luks-volumes.js';
import { readWhole } from '../support/disk-actions.js';
import { freshEncrypted, LUKS, newEncrypted, openEncrypted, PASSPHRASE } from '../support/encrypted-image.js';
import { expectSameBytes } from '../support/model-disk.js';
import { Qcow2Bytes } from '../support/qcow2-bytes.js';

const SIZE = 0x2_0000;
const shape = { size: SIZE, clusterSize: 4096 } as const;
const cheap = { iterTime: 0 } as const;

const fresh = () => freshEncrypted(LUKS, shape);

function activeSlots(image: Qcow2Image): number[] {
  const { encryption } = imageInfo(image);
  if (encryption?.format !== 'luks') throw new Error('no LUKS');
  return encryption.slots.flatMap(({ active }, index) => (active ? [index] : []));
}

/** Which of `passphrases` open the image in the file. */
async function opening(storage: MemoryStorage, ...passphrases: (string | Uint8Array)[]): Promise<boolean[]> {
  const results: boolean[] = [];
  for (const passphrase of passphrases) {
    const result = await unlockImage(storage, passphrase).catch((error: unknown) => error);
    if (result instanceof Error) expect(result).toMatchObject({ code: 'WRONG_PASSPHRASE' });
    else (result as Awaited<ReturnType<typeof unlockImage>>).cipher.wipe();
    results.push(!(result instanceof Error));
  }
  return results;
}

describe('the passphrases of an image', () => {
  it('are added, changed and erased while a guest goes on, and the data stay', async () => {
    const { storage, image } = await fresh();
    const bytes = new Uint8Array(SIZE).map((_, index) => index * 3 + (index >> 8));
    const adding = addPassphrase(image, { passphrase: PASSPHRASE, newPassphrase: 'second', ...cheap });
    image.write(0, bytes);
    expect(await adding).toBe(1);
    expect(await opening(storage, PASSPHRASE, 'second', 'third')).toEqual([true, true, false]);
    expect(await changePassphrase(image, { passphrase: PASSPHRASE, newPassphrase: 'third', ...cheap })).toBe(2);
    expect(await opening(storage, PASSPHRASE, 'second', 'third')).toEqual([false, true, true]);
    await erasePassphrase(image, { passphrase: 'second' });
    expect(await opening(storage, PASSPHRASE, 'second', 'third')).toEqual([false, false, true]);
    expect(activeSlots(image)).toEqual([2]);
    image.write(500, bytes.subarray(500, 600));
    image.close();
    const again = await openEncrypted(storage, { passphrase: 'third' });
    expectSameBytes(readWhole(again), bytes, 'the disk');
    again.close();
    expect(runToEnd(checkImage(storage)).findings).toEqual([]);
  });

  it('may be any bytes, as well as text', async () => {
    const { storage, image } = await fresh();
    const bytes = Uint8Array.of(0, 255, 0, 128, 10);
    await addPassphrase(image, { passphrase: PASSPHRASE, newPassphrase: bytes, ...cheap });
    await addPassphrase(image, { passphrase: bytes, newPassphrase: 'Grüße 🔑', ...cheap });
    await addPassphrase(image, { passphrase: bytes, newPassphrase: '', ...cheap });
    expect([...bytes], 'the array of the caller').toEqual([0, 255, 0, 128, 10]);
    const utf8 = new TextEncoder().encode('Grüße 🔑');
    expect(await opening(storage, bytes, utf8, 'Grüße 🔑', '', 'Grüße')).toEqual([true, true, true, true, false]);
    image.close();
  });

  it('are changed without the key: in an image that is locked, by who knows one of them', async () => {
    const storage = await newEncrypted({ encryption: LUKS, create: shape });
    const locked = openImage(storage, { encryption: null });
    await changePassphrase(locked, { passphrase: PASSPHRASE, newPassphrase: 'new', ...cheap });
    const wrong = { passphrase: PASSPHRASE, newPassphrase: 'x', ...cheap };
    expect(await rejection(addPassphrase(locked, wrong))).toMatch(/^WRONG_PASSPHRASE: /);
    locked.close();
    expect(await opening(storage, PASSPHRASE, 'new')).toEqual([false, true]);
  });

  it('are eight at most; the last is erased only with force, and then nothing opens the image', async () => {
    const { storage, image } = await fresh();
    for (let slot = 1; slot < 8; slot++) {
      expect(await addPassphrase(image, { passphrase: PASSPHRASE, newPassphrase: `p${slot}`, ...cheap })).toBe(slot);
    }
    const request = { passphrase: PASSPHRASE, newPassphrase: 'ninth', ...cheap };
    const full = 'LIMIT: all 8 key slots are in use; erase one first';
    expect(await rejection(addPassphrase(image, request))).toBe(full);
    expect(await rejection(changePassphrase(image, request))).toBe(full);
    expect(await rejection(addPassphrase(image, { ...request, slot: 3 }))).toMatch(
      /^BAD_ARGUMENT: key slot 3 is in use/,
    );
    await addPassphrase(image, { ...request, slot: 3, force: true });
    expect(await opening(storage, 'ninth', 'p3', 'p4')).toEqual([true, false, true]);
    for (let slot = 1; slot < 8; slot++) await erasePassphrase(image, { slot });
    for (const last of [{ slot: 0 }, { passphrase: PASSPHRASE }]) {
      expect(await rejection(erasePassphrase(image, last))).toContain('only force erases it');
    }
    expect(await rejection(erasePassphrase(image, {}))).toMatch(/^BAD_ARGUMENT: /);
    image.write(0, new Uint8Array(10).fill(7));
    await erasePassphrase(image, { slot: 0, force: true });
    const read = new Uint8Array(10);
    image.read(0, read);
    expect([...read]).toEqual(Array<number>(10).fill(7));
    image.close();
    expect(await rejection(unlockImage(storage, PASSPHRASE))).toMatch(/^BAD_IMAGE: no key slot is in use/);
  });

  it('can not be changed in an image that is read-only, closed, let go of or poisoned', async () => {
    const { storage, image } = await fresh();
    const request = { passphrase: PASSPHRASE, newPassphrase: 'new', ...cheap };
    const codes: string[] = [];
    const attempt = async () => {
      codes.push((await rejection(addPassphrase(image, request))).split(':')[0]!);
    };
    image.reopen({ readOnly: true });
    await attempt();
    image.reopen({ readOnly: false });
    image.inactivate();
    await attempt();
    image.invalidate();
    const { write } = storage;
    storage.write = () => {
      throw new Error('the medium is gone');
    };
    await attempt();
    storage.write = write;
    await attempt();
    image.close();
    await attempt();
    expect(codes).toEqual(['READ_ONLY', 'INACTIVE', 'IO', 'POISONED', 'CLOSED']);
    expect(await opening(storage, PASSPHRASE, 'new')).toEqual([true, false]);
  });

  it('are left alone where the image was closed, or its slots changed, while a key was derived', async () => {
    const { storage, image } = await fresh();
    const request = { passphrase: PASSPHRASE, newPassphrase: 'new', ...cheap };
    const both = await Promise.allSettled([addPassphrase(image, request), addPassphrase(image, request)]);
    expect(both.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    expect(both.find(({ status }) => status === 'rejected')).toMatchObject({
      reason: { code: 'BAD_ARGUMENT', message: expect.stringContaining('changed meanwhile') as string },
    });
    const late = rejection(addPassphrase(image, { ...request, newPassphrase: 'late' }));
    await Promise.resolve();
    image.close();
    expect(await late).toMatch(/^CLOSED: /);
    expect(await opening(storage, PASSPHRASE, 'new', 'late')).toEqual([true, true, false]);
  });

  it('are not written where the encryption header is said to lie on other metadata', async () => {
    const { storage, image } = await fresh();
    const area = cryptoAreaOf(image.header)!;
    image.close();
    const bytes = new Qcow2Bytes(storage.toBytes());
    // The L1 table in the material of a slot that is not in use.
    const l1 = area.offset + area.length - (area.length % 4096) - 4096;
    bytes.fill(l1, 4096);
    bytes.setBits(40, BigInt(l1));
    const hostile = new MemoryStorage(new Uint8Array(bytes.bytes));
    const opened = await openEncrypted(hostile);
    const before = hostile.toBytes();
    const refused = rejection(addPassphrase(opened, { passphrase: PASSPHRASE, newPassphrase: 'new', ...cheap }));
    expect(await refused).toMatch(/^CORRUPT: the encryption header at 0x[0-9a-f]+ .* would overwrite the L1 table$/);
    const after = hostile.toBytes();
    // But for the bit that says so.
    expect(after[79]).toBe(2);
    after[79] = 0;
    expectSameBytes(after, before, 'the file');
    opened.close();
  });
});
