/**
 * Passphrases of a qcow2 image in turns: those that one tool adds, changes and erases, while the image is in use by us, open or
 * do not open it for the other.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  addPassphrase,
  changePassphrase,
  createImage,
  erasePassphrase,
  imageInfo,
  newEncryption,
  openChain,
  unlockImage,
  type Qcow2Image,
} from '../../src/index.js';
import { NodeFileStorage } from '../../src/node.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import { SeededRandom } from '../support/seeded-random.js';
import { decryptedByQemu, encryptedImage, qemuCheckWith, qemuImgWith, qemuRefusal } from './qemu-secrets.js';
import { inTemporaryDirectory, qemuInfo } from './qemu.js';

/** Secret objects are named as what they hold. */
const SECRETS = { first: 'first', ours: 'ours', theirs: 'theirs', wrong: 'wrong' };
type Passphrase = keyof typeof SECRETS;

const disk = new SeededRandom(11).bytes(300 * 1024);
const cheap = { iterTime: 0 } as const;

/** With clusters of 4 KiB, so that the area does not end with one. */
async function create(file: string): Promise<void> {
  const encryption = await newEncryption({ format: 'luks', passphrase: 'first', ...cheap });
  const storage = NodeFileStorage.open(file, { create: true });
  createImage(storage, { size: disk.length, clusterSize: 4096, encryption });
  storage.close();
  encryption.opened.cipher.wipe();
  await withOurs(file, 'first', (image) => image.write(0, disk));
}

async function withOurs(file: string, passphrase: Passphrase, body: (image: Qcow2Image) => unknown): Promise<void> {
  const image = await openChain(NodeFileStorage.open(file), { passphrase });
  await body(image);
  image.close();
}

/** `qemu-img amend` of the key slots. */
function amendByQemu(file: string, opener: Passphrase, options: string): void {
  qemuImgWith(SECRETS, 'amend', ...encryptedImage('qcow2', file, opener), '-o', options);
}

/** Whether QEMU and we open it, which must be the same, and with the same bytes behind it. */
async function opens(file: string, passphrase: Passphrase): Promise<boolean> {
  const storage = NodeFileStorage.open(file, { readOnly: true });
  const ours = await unlockImage(storage, passphrase).catch((error: unknown) => error);
  storage.close();
  if (ours instanceof Error) {
    expect(ours).toMatchObject({ code: 'WRONG_PASSPHRASE' });
    const complaint = qemuRefusal(SECRETS, 'check', ...encryptedImage('qcow2', file, passphrase));
    expect(complaint).toContain('Invalid password');
    return false;
  }
  await withOurs(file, passphrase, (image) => expectSameBytes(readWhole(image), disk, `ours, ${passphrase}`));
  expectSameBytes(decryptedByQemu('qcow2', file, passphrase), disk, `QEMU, ${passphrase}`);
  return true;
}

async function expectOpening(file: string, ...expected: [Passphrase, ...Passphrase[]]): Promise<void> {
  const opening: Passphrase[] = [];
  for (const name of ['first', 'ours', 'theirs'] as const) if (await opens(file, name)) opening.push(name);
  expect(opening).toEqual(expected);
  expect(qemuCheckWith(expected[0], file)).toMatchObject({ leaks: 0, corruptions: 0, checkErrors: 0 });
}

/** Cipher, hash, slots: as QEMU prints them, and as `imageInfo` has them. */
async function expectSameInfo(file: string, passphrase: Passphrase): Promise<void> {
  const info = qemuInfo(file) as { 'format-specific': { data: { encrypt: unknown } } };
  await withOurs(file, passphrase, (image) => {
    const { encryption } = imageInfo(image);
    if (encryption?.format !== 'luks' || !encryption.supported) throw new Error('it is no LUKS image of ours');
    expect(info['format-specific'].data.encrypt).toMatchObject({
      format: 'luks',
      'cipher-alg': encryption.cipher,
      'cipher-mode': encryption.mode,
      'ivgen-alg': encryption.iv,
      'hash-alg': encryption.hash,
      uuid: encryption.uuid,
      'master-key-iters': encryption.keyDigestIterations,
      slots: encryption.slots.map(({ active, iterations, materialOffset }) =>
        active ? { active, iters: iterations, 'key-offset': materialOffset } : { active, 'key-offset': materialOffset },
      ),
    });
  });
}

describe('the passphrases of an image', () => {
  it('are added, changed and erased by QEMU and by us', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      await create(file);
      await expectOpening(file, 'first');
      await withOurs(file, 'first', async (opened) => {
        await addPassphrase(opened, { passphrase: 'first', newPassphrase: 'ours', ...cheap });
        opened.write(100, disk.subarray(100, 5000));
      });
      await expectSameInfo(file, 'ours');
      amendByQemu(
        file,
        'ours',
        'encrypt.state=active,encrypt.new-secret=theirs,encrypt.keyslot=6,encrypt.iter-time=10',
      );
      await expectOpening(file, 'first', 'ours', 'theirs');
      await expectSameInfo(file, 'theirs');
      amendByQemu(file, 'theirs', 'encrypt.state=inactive,encrypt.old-secret=first');
      await withOurs(file, 'theirs', async (opened) => {
        await changePassphrase(opened, { passphrase: 'theirs', newPassphrase: 'first', ...cheap });
      });
      await expectOpening(file, 'first', 'ours');
      await withOurs(file, 'ours', (opened) => erasePassphrase(opened, { passphrase: 'first' }));
      await expectOpening(file, 'ours');
      const last = qemuRefusal(
        SECRETS,
        ...(['amend', ...encryptedImage('qcow2', file, 'ours')] as const),
        ...['-o', 'encrypt.state=inactive,encrypt.old-secret=ours'],
      );
      expect(last).toContain('All the active keyslots match the (old) password');
      await withOurs(file, 'ours', async (opened) => {
        await expect(erasePassphrase(opened, { passphrase: 'ours' })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
      });
      expect(readFileSync(file).includes('theirs')).toBe(false);
    });
  });
});
