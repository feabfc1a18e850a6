/** The key slots of a damaged image: neither a guest nor a repair writes over them, because without them all data are lost. */
import { describe, expect, it } from 'vitest';
import { checkImage, MemoryStorage, runToEnd } from '../../src/index.js';
import { cryptoAreaOf } from '../../src/format/header.js';
import { freshEncrypted, LUKS, openEncrypted } from '../support/encrypted-image.js';
import { expectSameBytes } from '../support/model-disk.js';
import { Qcow2Bytes } from '../support/qcow2-bytes.js';

const CLUSTER = 4096;

/** An image that `damage` has been done to, and the bytes of its LUKS header. */
async function damagedImage(damage: (bytes: Qcow2Bytes, area: { offset: number; length: number }) => void) {
  const { storage, image } = await freshEncrypted(LUKS, { size: 0x40_0000, clusterSize: CLUSTER });
  image.write(0, new Uint8Array(100_000).fill(3));
  const area = cryptoAreaOf(image.header)!;
  image.close();
  const bytes = new Qcow2Bytes(storage.toBytes());
  damage(bytes, area);
  const file = new MemoryStorage(new Uint8Array(bytes.bytes));
  const areaBytes = (): Uint8Array => file.toBytes().slice(area.offset, area.offset + area.length);
  return { file, areaBytes };
}

const COPIED = 1n << 63n;

describe('the key slots of a damaged image', () => {
  it.each([
    [
      'a cluster of the guest is said to lie on them',
      0,
      (bytes: Qcow2Bytes, at: number) => bytes.setBits(bytes.l2EntryAt(0), BigInt(at) | COPIED),
    ],
    ['their clusters count as free', 200_000, (bytes: Qcow2Bytes, at: number) => bytes.setRefcount(at, 0)],
  ])('stay where %s, and the image is marked corrupt', async (_, offset, damage) => {
    const { file, areaBytes } = await damagedImage((bytes, area) => damage(bytes, area.offset));
    const before = areaBytes();
    const image = await openEncrypted(file);
    const write = () => image.write(offset, new Uint8Array(20_000).fill(5));
    expect(write).toThrow(
      expect.objectContaining({
        code: 'CORRUPT',
        message: expect.stringMatching(/would overwrite the encryption header$/) as string,
      }),
    );
    image.close();
    expectSameBytes(areaBytes(), before, 'the key slots');
    (await openEncrypted(file, { readOnly: true })).close();
  });

  it.each([0, 1, 9])(
    'stay where an L1 entry names cluster %i of them as a table, and all is repaired',
    async (cluster) => {
      const { file, areaBytes } = await damagedImage((bytes, area) => {
        bytes.setBits(bytes.l1Offset + 8, BigInt(area.offset + cluster * CLUSTER) | COPIED);
      });
      const before = areaBytes();
      runToEnd(checkImage(file, { repair: 'all' }));
      expectSameBytes(areaBytes(), before, 'the key slots');
      (await openEncrypted(file, { readOnly: true })).close();
    },
  );
});
