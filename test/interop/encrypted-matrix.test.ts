/**
 * Every cipher, mode and IV that QEMU takes with AES, with every hash and cluster size beside it, in qcow2 images of ours: QEMU reads
 * what we wrote and writes, and we read that. (QEMU takes 2 s for each header that it makes; those are in `luks-headers.test.ts` and
 * `encrypted-chains.test.ts`.)
 */
import { describe, expect, it } from 'vitest';
import { HASH_NAMES } from '../../src/crypto/hashes.js';
import type { LuksOptions } from '../../src/crypto/luks-create.js';
import { createImage, imageInfo, newEncryption, openChain, openImage } from '../../src/index.js';
import { NodeFileStorage } from '../../src/node.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes, ModelDisk } from '../support/model-disk.js';
import { SeededRandom } from '../support/seeded-random.js';
import { decryptedByQemu, qemuIoWith } from './qemu-secrets.js';
import { inTemporaryDirectory, qemuInfo } from './qemu.js';

const PASSPHRASE = 'correct horse';
const CLUSTER_SIZES = [512, 4096, 65536, 0x20_0000] as const;
const CIPHERS = ['aes-128', 'aes-192', 'aes-256'] as const;
const MODES = ['xts', 'cbc', 'ctr', 'ecb'] as const;
const IVS = [
  { iv: 'plain' },
  { iv: 'plain64' },
  { iv: 'essiv', ivHash: 'sha256' },
  { iv: 'essiv', ivHash: 'md5' },
  // Recorded, and of no meaning.
  { iv: 'plain64', ivHash: 'ripemd160' },
] as const;

interface Combination extends LuksOptions {
  readonly clusterSize: number;
}

/** Seven hashes and four sizes: within 28 in turn each hash meets each size. */
function combinations(): Combination[] {
  const ciphers = MODES.flatMap((mode) =>
    CIPHERS.filter((cipher) => mode === 'xts' || cipher !== 'aes-192').map((cipher) => ({ cipher, mode })),
  );
  return ciphers
    .flatMap((cipher) => IVS.map((iv) => ({ ...cipher, ...iv })))
    .map((options, index) => ({
      ...options,
      hash: HASH_NAMES[index % HASH_NAMES.length]!,
      clusterSize: CLUSTER_SIZES[index % CLUSTER_SIZES.length]!,
    }));
}

const bytes = new SeededRandom(17).bytes(70_000);

it('the matrix has each hash with each cluster size', () => {
  const pairs = new Set(combinations().map(({ hash, clusterSize }) => `${hash} ${clusterSize}`));
  expect(pairs.size).toBe(HASH_NAMES.length * CLUSTER_SIZES.length);
});

describe('a LUKS image of ours is read and written by QEMU, and read again', () => {
  it.each(combinations())('$cipher $mode $iv $ivHash, $hash, clusters of $clusterSize bytes', async (combination) => {
    const { clusterSize, ...options } = combination;
    const size = Math.max(0x10_0000, 2 * clusterSize);
    await inTemporaryDirectory(async (path) => {
      const file = path('image');
      const encryption = await newEncryption({ format: 'luks', passphrase: PASSPHRASE, iterTime: 0, ...options });
      const storage = NodeFileStorage.open(file, { create: true });
      createImage(storage, { size, clusterSize, encryption });
      const image = openImage(storage, { encryption: encryption.opened });
      const model = new ModelDisk({ size, clusterSize, version: 3 });
      for (const offset of [0, 100_001, size - bytes.length]) {
        image.write(offset, bytes);
        model.write(offset, bytes);
      }
      const { encryption: ours } = imageInfo(image);
      image.close();
      expectSameBytes(decryptedByQemu('qcow2', file, PASSPHRASE), model.bytes, 'what QEMU reads');
      const theirs = qemuInfo(file) as { 'format-specific': { data: { encrypt: Record<string, unknown> } } };
      const { encrypt } = theirs['format-specific'].data;
      expect(ours).toMatchObject({
        cipher: encrypt['cipher-alg'],
        mode: encrypt['cipher-mode'],
        iv: encrypt['ivgen-alg'],
        hash: encrypt['hash-alg'],
      });
      qemuIoWith({ key: PASSPHRASE }, file, [
        'write -P 90 777 50k',
        `write -P 91 ${size - 4000} 4000`,
        'write -z 300k 64k',
      ]);
      model.bytes.fill(90, 777, 777 + 51_200).fill(91, size - 4000);
      model.writeZeroes(300 * 1024, 65536);
      const again = await openChain(NodeFileStorage.open(file), { passphrase: PASSPHRASE });
      expectSameBytes(readWhole(again), model.bytes, 'what we read');
      again.close();
    });
  });
});
