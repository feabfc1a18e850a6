/**
 * Arguments that the compiler would refuse: callers without one get `BAD_ARGUMENT`, with the field and what was wrong, never a
 * TypeError, another encryption than they meant, or a passphrase in the message.
 */
import { describe, expect, it } from 'vitest';
import {
  addPassphrase,
  changePassphrase,
  createImage,
  erasePassphrase,
  MemoryStorage,
  newEncryption,
  openChain,
  unlockImage,
} from '../../src/index.js';
import { refusal, rejection } from '../crypto/luks-volumes.js';
import { freshEncrypted, LUKS, newEncrypted, openEncrypted, PASSPHRASE } from '../support/encrypted-image.js';

const shape = { size: 0x1_0000, clusterSize: 4096 } as const;

/** What no type allows. */
const any = (value: unknown): never => value as never;

const NO_FORMATS: readonly (readonly [unknown, string])[] = [
  ['LUKS', '"LUKS"'],
  ['luks2', '"luks2"'],
  ['', '""'],
  [undefined, 'undefined'],
  [null, 'null'],
  [2, 'a Number'],
  [['luks'], 'an Array'],
];

const NO_PASSPHRASES: readonly (readonly [unknown, string])[] = [
  [undefined, 'undefined'],
  [null, 'null'],
  [4711, 'a Number'],
  [true, 'a Boolean'],
  [['4711'], 'an Array'],
  [{ text: '4711' }, 'an Object'],
  [() => '4711', 'a Function'],
  [Symbol('4711'), 'a Symbol'],
  [new Uint16Array([4711]), 'a Uint16Array'],
  [new ArrayBuffer(4), 'an ArrayBuffer'],
  [Promise.resolve('4711'), 'a Promise'],
];

describe('a new encryption', () => {
  it.each(NO_FORMATS)('is not made for the format %s', async (format, shown) => {
    const message = `BAD_ARGUMENT: encryption.format is ${shown}; it must be "luks" or "aes"`;
    expect(await rejection(newEncryption(any({ format, passphrase: PASSPHRASE })))).toBe(message);
  });

  it.each([undefined, null, 'luks', 7])('is not made of %s', async (settings) => {
    expect(await rejection(newEncryption(any(settings)))).toMatch(/^BAD_ARGUMENT: encryption\.format is undefined/);
  });

  it('names a setting that is unknown, and what there is', async () => {
    const wrong = { cipher: 'serpent-256', mode: 'gcm', iv: 'random', hash: 'whirlpool', iterTime: '1' };
    for (const [name, value] of Object.entries(wrong)) {
      const made = newEncryption(any({ format: 'luks', passphrase: PASSPHRASE, iterTime: 0, [name]: value }));
      expect(await rejection(made), name).toMatch(/^BAD_ARGUMENT: .* it must be /);
    }
  });
});

describe('a passphrase that is neither text nor bytes', () => {
  it.each(NO_PASSPHRASES)('is refused wherever one is taken, without being shown: %s', async (wrong, shown) => {
    const { storage, image } = await freshEncrypted(LUKS, shape);
    const before = storage.toBytes();
    const change = { passphrase: PASSPHRASE, newPassphrase: 'new', iterTime: 0 };
    const told: Record<string, string> = {
      'newEncryption luks': await rejection(newEncryption({ format: 'luks', passphrase: any(wrong) })),
      'newEncryption aes': await rejection(newEncryption({ format: 'aes', passphrase: any(wrong) })),
      unlockImage: await rejection(unlockImage(storage, any(wrong))),
      addPassphrase: await rejection(addPassphrase(image, { ...change, passphrase: any(wrong) })),
      changePassphrase: await rejection(changePassphrase(image, { ...change, passphrase: any(wrong) })),
    };
    // Without one the slot to be erased is named.
    if (wrong !== undefined)
      told['erasePassphrase'] = await rejection(erasePassphrase(image, { passphrase: any(wrong) }));
    for (const [where, message] of Object.entries(told)) {
      expect(message, where).toBe(`BAD_ARGUMENT: passphrase is ${shown}; it must be text or a Uint8Array`);
    }
    const next = { ...change, newPassphrase: any(wrong) };
    for (const message of [
      await rejection(addPassphrase(image, next)),
      await rejection(changePassphrase(image, next)),
    ]) {
      expect(message).toBe(`BAD_ARGUMENT: newPassphrase is ${shown}; it must be text or a Uint8Array`);
    }
    expect(Buffer.compare(storage.toBytes(), before)).toBe(0);
    image.close();
  });

  it('is refused where it opens a chain', async () => {
    const storage = await newEncrypted({ encryption: LUKS, create: shape });
    for (const passphrase of [any(4711), () => any(4711), () => Promise.resolve(any(4711))]) {
      expect(await rejection(openChain(storage, { passphrase }))).toBe(
        'BAD_ARGUMENT: passphrase is a Number; it must be text or a Uint8Array',
      );
    }
    (await openEncrypted(storage)).close();
  });
});

describe('creating an image', () => {
  it('refuses an encryption that newEncryption has not made, and leaves the file as it was', async () => {
    const made = await newEncryption({ ...LUKS, passphrase: PASSPHRASE });
    const wrong = [
      null,
      'luks',
      { format: 'luks', passphrase: PASSPHRASE },
      Promise.resolve(made),
      made.opened,
      { opened: made.opened, area: null },
      { opened: { ...made.opened, format: 'aes' }, area: made.area },
      { area: made.area },
    ];
    for (const encryption of wrong) {
      const storage = new MemoryStorage(new Uint8Array(100).fill(1));
      expect(refusal(() => createImage(storage, { ...shape, encryption: any(encryption) }))).toBe(
        'BAD_ARGUMENT: encryption is nothing that newEncryption() has made; await what it returns, and give that',
      );
      expect(Buffer.compare(storage.toBytes(), new Uint8Array(100).fill(1))).toBe(0);
    }
    made.opened.cipher.wipe();
  });
});
