/**
 * A key on the wrong image: whatever file lies where another one was, the key that was opened is used for its own image only.
 * Otherwise what is read would be rubbish, and what is written would be lost.
 */
import { describe, expect, it } from 'vitest';
import {
  addPassphrase,
  changePassphrase,
  copiedEncryption,
  createImage,
  createSnapshot,
  erasePassphrase,
  gotoSnapshot,
  MemoryStorage,
  newEncryption,
  openChain,
  openImage,
  unlockImage,
} from '../../src/index.js';
import { cryptoAreaOf } from '../../src/format/header.js';
import { refusal } from '../crypto/luks-volumes.js';
import { readWhole } from '../support/disk-actions.js';
import { AES, freshEncrypted, LUKS, newEncrypted, openEncrypted, PASSPHRASE } from '../support/encrypted-image.js';
import { expectSameBytes } from '../support/model-disk.js';

const SIZE = 0x4_0000;
const shape = { size: SIZE, clusterSize: 4096 } as const;
const cheap = { iterTime: 0 } as const;

/** Puts the bytes of `other` in the place of `storage`'s. */
function replace(storage: MemoryStorage, other: MemoryStorage): void {
  storage.truncate(0);
  storage.write(0, other.toBytes());
}

describe('an image that is let go of', () => {
  it('refuses to come back as another LUKS image with the same passphrase, and changes nothing in it', async () => {
    const { storage, image } = await freshEncrypted(LUKS, shape);
    image.inactivate();
    const other = await newEncrypted({ encryption: LUKS, create: shape });
    replace(storage, other);
    const message =
      'KEY_NEEDED: the LUKS header is that of another key now, and so of another image; close the image and open it again';
    expect(refusal(() => image.invalidate())).toBe(message);
    expect(refusal(() => image.invalidate())).toBe(message);
    expect(refusal(() => image.read(0, new Uint8Array(1)))).toMatch(/^INACTIVE: /);
    expect(refusal(() => image.write(0, new Uint8Array(1)))).toMatch(/^INACTIVE: /);
    image.close();
    expectSameBytes(storage.toBytes(), other.toBytes(), 'the other image');
    (await openEncrypted(storage)).close();
  });

  it.each([
    ['the digest of the key', 112],
    ['the salt of the digest', 140],
    ['the iterations of the digest', 167],
    ['the hash', 72 + 4],
    ['the mode of the cipher', 40 + 10],
  ])('refuses to come back where %s is not the same any more', async (_, at) => {
    const { storage, image } = await freshEncrypted({ ...LUKS, mode: 'xts', iv: 'plain64', hash: 'sha256' }, shape);
    const area = cryptoAreaOf(image.header)!;
    image.inactivate();
    const bytes = storage.toBytes();
    bytes[area.offset + at]! ^= 1;
    replace(storage, new MemoryStorage(bytes));
    expect(refusal(() => image.invalidate())).toMatch(/^KEY_NEEDED: the LUKS header is that of another key now/);
    bytes[area.offset + at]! ^= 1;
    replace(storage, new MemoryStorage(bytes));
    image.invalidate();
    image.close();
  });

  it('says what is wrong with a LUKS header that is damaged', async () => {
    const { storage, image } = await freshEncrypted(LUKS, shape);
    const area = cryptoAreaOf(image.header)!;
    image.inactivate();
    storage.write(area.offset, new Uint8Array(6));
    expect(refusal(() => image.invalidate())).toMatch(/^BAD_IMAGE: the encryption header is no LUKS header/);
    image.close();
  });

  it('comes back with other passphrases, another uuid and other data, which are those of the same key', async () => {
    const { storage, image } = await freshEncrypted(LUKS, shape);
    image.inactivate();
    const other = await openEncrypted(storage);
    const area = cryptoAreaOf(other.header)!;
    await addPassphrase(other, { passphrase: PASSPHRASE, newPassphrase: 'second', ...cheap });
    await changePassphrase(other, { passphrase: PASSPHRASE, newPassphrase: 'third', ...cheap });
    await erasePassphrase(other, { passphrase: 'second' });
    other.write(1000, new Uint8Array(5000).fill(9));
    other.close();
    storage.write(area.offset + 168, new TextEncoder().encode('another'));
    image.invalidate();
    expectSameBytes(readWhole(image), new Uint8Array(SIZE).fill(9, 1000, 6000), 'the disk');
    image.close();
  });

  it('comes back locked as whatever LUKS image lies there', async () => {
    const storage = await newEncrypted({ encryption: LUKS, create: shape });
    const image = openImage(storage, { encryption: null });
    image.inactivate();
    replace(storage, await newEncrypted({ encryption: LUKS, create: shape }));
    image.invalidate();
    image.close();
  });
});

describe('an opened encryption', () => {
  it('does not open another image with the same passphrase', async () => {
    const [own, other] = [
      await newEncrypted({ encryption: LUKS, create: shape }),
      await newEncrypted({ encryption: LUKS, create: shape }),
    ];
    const encryption = await unlockImage(own, PASSPHRASE);
    const before = other.toBytes();
    expect(refusal(() => openImage(other, { encryption }))).toBe(
      'BAD_ARGUMENT: encryption was opened for another image: its key is not behind this LUKS header',
    );
    expectSameBytes(other.toBytes(), before, 'the other image');
    openImage(own, { encryption }).close();
  });

  it('that was made for a new image opens that one, and not one that is made at the same time', async () => {
    const [first, second] = [
      await newEncryption({ ...LUKS, passphrase: PASSPHRASE }),
      await newEncryption({ ...LUKS, passphrase: PASSPHRASE }),
    ];
    const storage = new MemoryStorage();
    createImage(storage, { ...shape, encryption: first });
    expect(refusal(() => openImage(storage, { encryption: second.opened }))).toMatch(/^BAD_ARGUMENT: /);
    openImage(storage, { encryption: first.opened }).close();
  });
});

describe('a copy with the same key', () => {
  it.each([LUKS, { ...LUKS, mode: 'cbc', iv: 'essiv' }, { ...LUKS, mode: 'ecb' }, AES] as const)(
    'opens with the same passphrases: %j',
    async (encryption) => {
      const { image } = await freshEncrypted(encryption, shape);
      if (encryption.format === 'luks') {
        await addPassphrase(image, { passphrase: PASSPHRASE, newPassphrase: 'second', ...cheap });
      }
      const copied = copiedEncryption(image)!;
      const storage = new MemoryStorage();
      createImage(storage, { ...shape, encryption: copied });
      const copy = openImage(storage, { encryption: copied.opened });
      copy.write(0, new Uint8Array(1000).fill(5));
      copy.close();
      image.close();
      for (const passphrase of encryption.format === 'luks' ? [PASSPHRASE, 'second'] : [PASSPHRASE]) {
        const opened = await openChain(storage, { passphrase });
        expectSameBytes(readWhole(opened), new Uint8Array(SIZE).fill(5, 0, 1000), passphrase);
        opened.close();
      }
    },
  );

  it('is refused in cipher mode ctr, also through a plain overlay: the XOR of both would be there for all to read', async () => {
    const { storage, image } = await freshEncrypted({ ...LUKS, mode: 'ctr' }, shape);
    const message =
      'KEY_NEEDED: in cipher mode ctr two files with one key give away the content of both; give the copy an encryption of its own';
    expect(refusal(() => copiedEncryption(image))).toBe(message);
    image.close();
    const overlay = new MemoryStorage();
    createImage(overlay, { ...shape, backing: { name: 'base', format: 'qcow2' } });
    const chain = await openChain(overlay, { opener: () => storage, passphrase: PASSPHRASE });
    expect(refusal(() => copiedEncryption(chain))).toBe(message);
    chain.close();
  });
});

it('going to a snapshot and reopening keep the key, and look at the header again', async () => {
  const { storage, image } = await freshEncrypted(LUKS, shape);
  image.write(0, new Uint8Array(9000).fill(1));
  createSnapshot(image, { name: 'one' });
  image.write(0, new Uint8Array(9000).fill(2));
  gotoSnapshot(image, 'one');
  image.reopen({ l2CacheSize: 8192 });
  expectSameBytes(readWhole(image), new Uint8Array(SIZE).fill(1, 0, 9000), 'the disk');
  const area = cryptoAreaOf(image.header)!;
  const digest = new Uint8Array(20);
  storage.read(area.offset + 112, digest);
  storage.write(area.offset + 112, new Uint8Array(20));
  expect(refusal(() => image.reopen({}))).toMatch(/^KEY_NEEDED: /);
  storage.write(area.offset + 112, digest);
  expectSameBytes(readWhole(image), new Uint8Array(SIZE).fill(1, 0, 9000), 'the disk after that');
  image.close();
});
