/**
 * Opening encrypted images: what each key, wrong key and missing key leads to; locked images; that keys are wiped when they
 * should be and only then; that no message has a secret in it.
 */
import { describe, expect, it } from 'vitest';
import {
  addPassphrase,
  changePassphrase,
  checkImage,
  copiedEncryption,
  createImage,
  erasePassphrase,
  imageInfo,
  isQcow2Error,
  listSnapshots,
  MemoryStorage,
  newEncryption,
  openChain,
  openImage,
  resizeImage,
  runToEnd,
  unlockImage,
  type CreateSectorCipher,
  type ImageEncryption,
  type Qcow2Error,
} from '../../src/index.js';
import { cryptoAreaOf } from '../../src/format/header.js';
import { createSectorCipher } from '../../src/kernels/index.js';
import {
  AES,
  FORMATS,
  freshEncrypted,
  LUKS,
  newEncrypted,
  openEncrypted,
  PASSPHRASE,
} from '../support/encrypted-image.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';

const SIZE = 0x4_0000;
const shape = { size: SIZE, clusterSize: 4096 } as const;

/** What `operation` throws or rejects with, which must be ours. */
async function errorOf(operation: () => unknown): Promise<Qcow2Error> {
  try {
    await operation();
  } catch (error) {
    if (isQcow2Error(error)) return error;
    throw error;
  }
  throw new Error('it did not fail');
}

async function plainImage(): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  createImage(storage, shape);
  return storage;
}

/** Ciphers that are told of when they are wiped. */
function watchedCiphers(): { readonly create: CreateSectorCipher; readonly alive: () => number } {
  let alive = 0;
  return {
    alive: () => alive,
    create: (options) => {
      const cipher = createSectorCipher(options);
      alive++;
      const wipe = cipher.wipe.bind(cipher);
      cipher.wipe = () => {
        alive--;
        // A second time would be counted, too.
        wipe();
      };
      return cipher;
    },
  };
}

describe.each(FORMATS)('an image encrypted with $format', (encryption) => {
  const { format } = encryption;

  it('reads with its passphrase what was written with it, and is not plain in the file', async () => {
    const { storage, image } = await freshEncrypted(encryption, shape);
    const text = Buffer.from('a sentence that is looked for in the file '.repeat(100));
    image.write(1234, text);
    image.close();
    expect(Buffer.from(storage.toBytes()).includes('a sentence')).toBe(false);
    const again = await openEncrypted(storage);
    const read = new Uint8Array(text.length);
    again.read(1234, read);
    expectSameBytes(read, text, 'the text');
    expect(again.encryption?.format).toBe(format);
    again.close();
  });

  it('says KEY_NEEDED without one, whichever way it is opened, and lets go of nothing it was not given', async () => {
    const storage = await newEncrypted({ encryption, create: shape });
    const before = storage.toBytes();
    const name = format.toUpperCase();
    const expected = { code: 'KEY_NEEDED', message: `the image is encrypted (${name}), and no key was given` };
    expect(await errorOf(() => openImage(storage))).toMatchObject(expected);
    expect(await errorOf(() => openChain(storage))).toMatchObject(expected);
    expect(await errorOf(() => openChain(storage, { passphrase: () => undefined }))).toMatchObject(expected);
    expectSameBytes(storage.toBytes(), before, 'the file');
  });

  it('refuses the encryption of another kind', async () => {
    const storage = await newEncrypted({ encryption, create: shape });
    const other = await newEncryption({ ...(format === 'luks' ? AES : LUKS), passphrase: PASSPHRASE });
    expect(await errorOf(() => openImage(storage, { encryption: other.opened }))).toMatchObject({
      code: 'BAD_ARGUMENT',
      message: `encryption.format is ${other.opened.format}; that of the image is ${format}`,
    });
  });

  it('can be looked at while it is locked, and neither read nor written', async () => {
    const { storage, image } = await freshEncrypted(encryption, shape);
    image.write(0, new Uint8Array(10_000).fill(1));
    image.close();
    const before = storage.toBytes();
    const locked = openImage(storage, { encryption: null });
    expect(locked.encryption).toBeNull();
    expect(imageInfo(locked)).toMatchObject({ virtualSize: SIZE, encryption: { format } });
    expect([...locked.extents(0, SIZE)].map(({ kind }) => kind)).toEqual(['data', 'unallocated']);
    expect(listSnapshots(locked)).toEqual([]);
    for (const use of [
      () => locked.read(0, new Uint8Array(1)),
      () => locked.write(0, new Uint8Array(1)),
      () => locked.write(0x2_0000, new Uint8Array(4096)),
      () => locked.write(0x2_0000, new Uint8Array(5)),
      () => locked.writeZeroes(100, 5),
      () => locked.writeZeroes(0, 0x1_0000),
      () => locked.discard(0, 0x1_0000),
      () => locked.resize(SIZE + 512),
      () => runToEnd(resizeImage(locked, { size: SIZE - 512, shrink: true })),
      () => copiedEncryption(locked),
    ]) {
      expect(await errorOf(use)).toMatchObject({ code: 'KEY_NEEDED' });
    }
    expect([...locked.extents(0, SIZE)].map(({ kind }) => kind)).toEqual(['data', 'unallocated']);
    locked.close();
    expectSameBytes(storage.toBytes(), before, 'the file');
    const { corruptions, leaks } = runToEnd(checkImage(storage));
    expect({ corruptions, leaks }).toEqual({ corruptions: 0, leaks: 0 });
    const again = await openEncrypted(storage);
    expectSameBytes(readWhole(again), new Uint8Array(SIZE).fill(1, 0, 10_000), 'the disk');
    again.close();
  });

  it('has its cipher wiped on close, once, and not a borrowed one', async () => {
    const ciphers = watchedCiphers();
    const storage = await newEncrypted({ encryption, create: shape });
    const image = await openEncrypted(storage, { unlock: { createCipher: ciphers.create } });
    expect(ciphers.alive()).toBe(1);
    const { encryption: opened } = image;
    const other = openImage(new MemoryStorage(storage.toBytes()), {
      encryption: { ...opened!, borrowed: true },
      readOnly: true,
    });
    other.close();
    expect(ciphers.alive()).toBe(1);
    image.reopen({ readOnly: true });
    image.inactivate();
    image.invalidate();
    image.cleanCaches();
    expect(ciphers.alive()).toBe(1);
    image.close();
    image.close();
    expect(ciphers.alive()).toBe(0);
    expect(() => opened!.cipher.encrypt(new Uint8Array(512), 0)).toThrow(expect.objectContaining({ code: 'CLOSED' }));
  });

  it('leaves no cipher alive when it does not open', async () => {
    const ciphers = watchedCiphers();
    const unlock = { createCipher: ciphers.create };
    const storage = await newEncrypted({ encryption, create: shape });
    const marked = storage.toBytes();
    marked[79] = 2; // corrupt
    await errorOf(() => openEncrypted(new MemoryStorage(marked), { unlock }));
    const badCache = { l2CacheSize: -1 };
    await errorOf(() => openEncrypted(storage, { unlock, ...badCache }));
    storage.read = () => {
      throw new Error('the medium is gone');
    };
    await expect(openEncrypted(storage, { unlock })).rejects.toThrow('the medium is gone');
    expect(ciphers.alive()).toBe(0);
  });

  it('keeps its key through reopening, letting go and cleaning of caches', async () => {
    const { image } = await freshEncrypted(encryption, shape);
    const bytes = new Uint8Array(SIZE).map((_, index) => index * 7 + (index >> 9));
    image.write(0, bytes);
    image.reopen({ readOnly: true });
    expectSameBytes(readWhole(image), bytes, 'read-only');
    image.reopen({ readOnly: false, l2CacheSize: 8192 });
    image.write(777, bytes.subarray(777, 9999));
    image.cleanCaches();
    image.cleanCaches();
    expectSameBytes(readWhole(image), bytes, 'with caches cleaned');
    image.inactivate();
    image.invalidate();
    expectSameBytes(readWhole(image), bytes, 'after invalidate');
    image.close();
  });
});

describe('opening an image that is not encrypted', () => {
  it('refuses an encryption, has nothing to unlock, and takes no notice of a passphrase', async () => {
    const storage = await plainImage();
    const { opened } = await newEncryption({ ...AES, passphrase: PASSPHRASE });
    expect(await errorOf(() => openImage(storage, { encryption: opened }))).toMatchObject({ code: 'BAD_ARGUMENT' });
    expect(await errorOf(() => unlockImage(storage, PASSPHRASE))).toMatchObject({ code: 'BAD_ARGUMENT' });
    openImage(storage, { encryption: null }).close();
    (await openEncrypted(storage)).close();
  });

  it('is refused by who requires an encryption, before anything else is opened', async () => {
    const plain = await plainImage();
    const below = new MemoryStorage();
    createImage(below, { ...shape, backing: { name: 'base', format: 'raw' } });
    const opener = () => expect.unreachable('the backing file is not asked for');
    const why = 'the image is not encrypted, and it must be encrypted';
    for (const [requireEncryption, message] of [
      [true, why],
      ['luks', `${why} with LUKS`],
      ['aes', `${why} with AES`],
    ] as const) {
      for (const storage of [plain, below]) {
        const open = () => openEncrypted(storage, { requireEncryption, opener });
        expect(await errorOf(open)).toMatchObject({ code: 'BAD_ARGUMENT', message });
      }
    }
    (await openEncrypted(plain, { requireEncryption: false })).close();
  });

  it('is no concern of the files below one that is encrypted as required', async () => {
    const storage = await newEncrypted({
      encryption: LUKS,
      create: { ...shape, backing: { name: 'base', format: 'qcow2' } },
    });
    for (const requireEncryption of [true, 'luks'] as const) {
      (await openEncrypted(storage, { requireEncryption, opener: plainImage })).close();
    }
    expect(await errorOf(() => openEncrypted(storage, { requireEncryption: 'aes' }))).toMatchObject({
      code: 'BAD_ARGUMENT',
      message: 'the image is encrypted with LUKS, and it must be encrypted with AES',
    });
    const unknown = 'LUKS' as never;
    expect(await errorOf(() => openEncrypted(storage, { requireEncryption: unknown }))).toMatchObject({
      code: 'BAD_ARGUMENT',
      message: 'requireEncryption must be true, false, "luks" or "aes"',
    });
  });

  it('is a clear error where another file with another encryption took its place meanwhile', async () => {
    const { storage, image } = await freshEncrypted(LUKS, shape);
    image.inactivate();
    createImage(storage, shape);
    expect(await errorOf(() => image.invalidate())).toMatchObject({
      code: 'KEY_NEEDED',
      message: 'the encryption is none instead of luks now; close the image and open it again',
    });
  });
});

describe.each(FORMATS)('a new encryption with $format', (encryption) => {
  const fresh = () => newEncryption({ ...encryption, passphrase: PASSPHRASE });

  it('opens its image without a second derivation, and has the image wipe the key', async () => {
    const made = await fresh();
    const storage = new MemoryStorage();
    createImage(storage, { ...shape, encryption: made });
    const image = openImage(storage, { encryption: made.opened });
    image.write(0, new Uint8Array(512).fill(1));
    image.close();
    const message = /^the key of encryption was wiped, when .* was closed, or by who made it; unlock the image again$/;
    expect(await errorOf(() => openImage(storage, { encryption: made.opened }))).toMatchObject({
      code: 'CLOSED',
      message: expect.stringMatching(message) as string,
    });
    (await openEncrypted(storage)).close();
  });

  it('is that of one image: another is refused and left alone, and the same file may be made anew', async () => {
    const made = await fresh();
    const storage = new MemoryStorage();
    createImage(storage, { ...shape, encryption: made });
    createImage(storage, { ...shape, encryption: { ...made } });
    const second = new MemoryStorage(new Uint8Array(100).fill(7));
    for (const encryptionOfFirst of [made, { ...made, opened: { ...made.opened } }]) {
      expect(await errorOf(() => createImage(second, { ...shape, encryption: encryptionOfFirst }))).toMatchObject({
        code: 'BAD_ARGUMENT',
        message:
          'encryption is that of another image already, which would have the same key; call newEncryption() for each image',
      });
    }
    expectSameBytes(second.toBytes(), new Uint8Array(100).fill(7), 'the second file');
    const image = openImage(storage, { encryption: made.opened });
    createImage(second, { ...shape, encryption: copiedEncryption(image)! });
    image.close();
    (await openEncrypted(second)).close();
  });

  it('wipes its key when it is disposed of, and not a borrowed one', async () => {
    const ciphers = watchedCiphers();
    const made = await newEncryption({ ...encryption, passphrase: PASSPHRASE }, { createCipher: ciphers.create });
    const storage = new MemoryStorage();
    createImage(storage, { ...shape, encryption: made });
    const image = openImage(storage, { encryption: made.opened });
    copiedEncryption(image)!.dispose();
    expect(ciphers.alive()).toBe(1);
    image.close();
    const unused = await newEncryption({ ...encryption, passphrase: PASSPHRASE }, { createCipher: ciphers.create });
    expect(ciphers.alive()).toBe(1);
    unused.dispose();
    expect(ciphers.alive()).toBe(0);
    expect(await errorOf(() => unused.opened.cipher.encrypt(new Uint8Array(512), 0))).toMatchObject({ code: 'CLOSED' });
  });
});

describe('the work of deriving keys', () => {
  it('is bounded by who opens, adds or makes', async () => {
    const storage = await newEncrypted({ encryption: LUKS, create: shape });
    const little = { maxDerivationWork: 2999 }; // a slot of the fewest iterations takes 3000
    for (const operation of [
      () => unlockImage(storage, PASSPHRASE, little),
      () => openEncrypted(storage, { unlock: little }),
      () => newEncryption({ ...LUKS, passphrase: PASSPHRASE }, little),
      () => newEncryption({ ...LUKS, iterTime: 1, passphrase: PASSPHRASE }, little),
    ]) {
      expect(await errorOf(operation)).toMatchObject({ code: 'LIMIT' });
    }
    expect(await errorOf(() => unlockImage(storage, PASSPHRASE, { maxDerivationWork: NaN }))).toMatchObject({
      code: 'BAD_ARGUMENT',
      message: 'maxDerivationWork is NaN; it must be more than 0',
    });
    const image = await openEncrypted(storage, { unlock: { maxDerivationWork: 3000 } });
    const change = { passphrase: PASSPHRASE, newPassphrase: 'other', iterTime: 0 };
    // Both slots are to open within the limit: 3000 each.
    const added = () => addPassphrase(image, change, { maxDerivationWork: 5999 });
    expect(await errorOf(added)).toMatchObject({ code: 'LIMIT' });
    expect(await addPassphrase(image, change, { maxDerivationWork: 6000 })).toBe(1);
    const erase = () => erasePassphrase(image, { passphrase: 'other' }, { maxDerivationWork: 5999 });
    expect(await errorOf(erase)).toMatchObject({ code: 'LIMIT' });
    image.close();
  });

  it('ends with its signal, also where a new encryption is made', async () => {
    const signal = AbortSignal.abort();
    for (const format of FORMATS) {
      const making = () => newEncryption({ ...format, passphrase: PASSPHRASE }, { signal });
      if (format.format === 'luks') expect(await errorOf(making)).toMatchObject({ code: 'ABORTED' });
      else (await newEncryption({ ...format, passphrase: PASSPHRASE }, { signal })).dispose();
    }
  });
});

describe('the info of an image that is locked', () => {
  it.each([
    ['the cipher', 8, 'serpent', { cipherName: 'serpent', cipherMode: 'xts-plain64', hash: 'sha256' }],
    ['the mode', 40, 'lrw-benbi', { cipherName: 'aes', cipherMode: 'lrw-benbi', hash: 'sha256' }],
    ['the hash', 72, 'whirlpool', { cipherName: 'aes', cipherMode: 'xts-plain64', hash: 'whirlpool' }],
  ])('names what is not supported: %s', async (_, at, name, names) => {
    const storage = await newEncrypted({ encryption: LUKS, create: shape });
    const before = openImage(storage, { encryption: null });
    const known = imageInfo(before).encryption;
    expect(known).toMatchObject({ supported: true, cipher: 'aes-256', cipherName: 'aes', cipherMode: 'xts-plain64' });
    const field = new Uint8Array(32);
    field.set(new TextEncoder().encode(name));
    storage.write(cryptoAreaOf(before.header)!.offset + at, field);
    before.close();
    const locked = openImage(storage, { encryption: null });
    const { cipher, mode, iv, ...facts } = known as Extract<typeof known, { supported: true }>;
    expect([cipher, mode, iv]).toEqual(['aes-256', 'xts', 'plain64']);
    expect(imageInfo(locked).encryption).toEqual({ ...facts, ...names, supported: false });
    locked.close();
    expect(await errorOf(() => openEncrypted(storage))).toMatchObject({ code: 'UNSUPPORTED' });
  });
});

describe('legacy AES', () => {
  it('can not tell a wrong passphrase: what it reads is something else', async () => {
    const { storage, image } = await freshEncrypted(AES, shape);
    image.write(0, new Uint8Array(4096).fill(1));
    image.close();
    const wrong = await openEncrypted(storage, { passphrase: 'wrong' });
    const read = new Uint8Array(4096);
    wrong.read(0, read);
    expect(Buffer.compare(read, new Uint8Array(4096).fill(1))).not.toBe(0);
    wrong.close();
  });

  it('has no key slots', async () => {
    const { image } = await freshEncrypted(AES, shape);
    const change = { passphrase: PASSPHRASE, newPassphrase: 'other', iterTime: 0 };
    for (const use of [
      () => addPassphrase(image, change),
      () => changePassphrase(image, change),
      () => erasePassphrase(image, { slot: 1 }),
    ]) {
      expect(await errorOf(use)).toMatchObject({ code: 'BAD_ARGUMENT' });
    }
    image.close();
  });
});

describe('what is told of an encrypted image', () => {
  const SECRETS = ['sesame-open-1', 'sesame-open-2', 'sesame-open-3'] as const;

  /** All words of an error: message, causes, stack, properties. */
  function wordsOf(error: unknown): string {
    if (!(error instanceof Error)) return String(error);
    return [error.stack, error.message, JSON.stringify(error), wordsOf(error.cause ?? '')].join('\n');
  }

  it('never has a passphrase or a key in it, whatever goes wrong', async () => {
    const [own, second, wrong] = SECRETS;
    const made = await newEncryption({ ...LUKS, passphrase: own });
    const storage = new MemoryStorage();
    createImage(storage, { ...shape, encryption: made });
    const image: { encryption: ImageEncryption } & ReturnType<typeof openImage> = openImage(storage, {
      encryption: made.opened,
    }) as never;
    await addPassphrase(image, { passphrase: own, newPassphrase: second, iterTime: 0 });
    const change = { passphrase: wrong, newPassphrase: second, iterTime: 0 };
    const failing: (() => unknown)[] = [
      () => openChain(storage, { passphrase: wrong }),
      () => unlockImage(storage, wrong),
      () => addPassphrase(image, change),
      () => addPassphrase(image, { ...change, passphrase: own, slot: 0 }),
      () => addPassphrase(image, { ...change, passphrase: own, slot: 99 }),
      () => addPassphrase(image, { ...change, passphrase: own, iterTime: -1 }),
      () => addPassphrase(image, { ...change, passphrase: own, iterTime: 1e12 }),
      () => changePassphrase(image, change),
      () => erasePassphrase(image, { passphrase: wrong }),
      () => erasePassphrase(image, { passphrase: wrong, slot: 0 }),
      () => newEncryption({ ...LUKS, passphrase: own, cipher: 'aes-192', mode: 'cbc' }),
      () => newEncryption({ ...LUKS, passphrase: own, mode: 'cbc', iv: 'essiv', ivHash: 'sha1' }),
      () => newEncryption({ format: 'luks', passphrase: own, iterTime: Number.NaN }),
      () => unlockImage(storage, own, { signal: AbortSignal.abort() }),
      () =>
        unlockImage(storage, own, {
          createCipher: () => {
            throw new Error('no memory');
          },
        }),
      () =>
        unlockImage(storage, own, {
          derivation: { isNative: () => true, pbkdf2: () => Promise.reject(new Error('no hash')) },
        }),
      () => unlockImage(new MemoryStorage(storage.toBytes().fill(0, 4096)), own),
    ];
    for (const operation of failing) {
      let words = '';
      try {
        await operation();
      } catch (error) {
        words = wordsOf(error);
      }
      expect(words, String(operation)).not.toBe('');
      // The stack has the lines of this file's functions, and no line of it has the words of a secret.
      for (const secret of SECRETS) expect(words.includes(secret), `${secret} in: ${words}`).toBe(false);
    }
    expect(JSON.stringify(imageInfo(image))).not.toContain('sesame');
    image.close();
  });
});
