/** The snapshot table as QEMU and we write it: what is in an entry, which ids are given, what is kept byte for byte. */
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  createSnapshot,
  deleteSnapshot,
  discardVmState,
  gotoSnapshot,
  isQcow2Error,
  listSnapshots,
  readVmState,
  resizeImage,
  runToEnd,
  writeVmState,
  type Qcow2Image,
} from '../../src/index.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import { Qcow2Bytes } from '../support/qcow2-bytes.js';
import { createOurs, withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuBytes, qemuCreate, qemuImg, qemuInfo, qemuIo } from './qemu.js';
import { asQemuLists, qemuSnapshots } from './snapshots-by-qemu.js';

const MEBIBYTE = 0x10_0000;

function readImage(file: string): Qcow2Bytes {
  return new Qcow2Bytes(readFileSync(file));
}

/** The entries of the snapshot table, as bytes. */
function entriesOf(file: string): Buffer[] {
  const image = readImage(file);
  let at = image.snapshotsOffset;
  return Array.from({ length: image.u32(60) }, () => {
    const names = image.u32(at + 12);
    const length = Math.ceil((40 + image.u32(at + 36) + (names >>> 16) + (names & 0xffff)) / 8) * 8;
    at += length;
    return image.bytes.subarray(at - length, at);
  });
}

/** Puts `entries` where the file ends, in place of the snapshot table, whose cluster is given up. */
function replaceEntries(file: string, entries: readonly Uint8Array[]): void {
  const image = readImage(file);
  image.setRefcount(image.snapshotsOffset, 0);
  const at = image.append(Buffer.concat(entries));
  image.append(new Uint8Array(0));
  image.setRefcount(at, 1);
  image.setBits(64, BigInt(at));
  writeFileSync(file, image.bytes);
}

/** An entry with other extra data, the names behind it. */
function withExtra(entry: Buffer, extra: Uint8Array): Buffer {
  const old = entry.readUInt32BE(36);
  const fixed = Buffer.from(entry.subarray(0, 40));
  fixed.writeUInt32BE(extra.length, 36);
  const names = entry.subarray(40 + old, 40 + old + entry.readUInt16BE(12) + entry.readUInt16BE(14));
  const bytes = Buffer.concat([fixed, extra, names]);
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 7)]);
}

describe('entries of the snapshot table', () => {
  it('say to QEMU what we were told, and to us what QEMU was', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: MEBIBYTE, options: { cluster_size: 4096 } });
      qemuIo(file, ['write -P 1 0 100k']);
      qemuImg('snapshot', '-c', 'größe ✓ 日本 😀', file);
      await withOurs(file, (image) => {
        const { length } = writeState(image, 70_000, 5);
        createSnapshot(image, {
          name: 'ours: ä',
          date: Date.UTC(2030, 1, 2, 3, 4, 5) + 678.25,
          vmClock: 12_345_678_901_234n,
          instructionCount: 987_654_321n,
          vmStateBytes: length,
        });
        createSnapshot(image, { name: 'without a count', id: '77', date: 0 });
        createSnapshot(image, { name: '' });
      });
      expectCleanCheck(file);
      const listed = await withOurs(file, asQemuLists, { readOnly: true });
      expect(listed).toEqual(qemuSnapshots(file));
      expect(listed.map(({ id }) => id)).toEqual(['1', '2', '77', '78']);
      const shown = qemuImg('snapshot', '-l', file);
      expect(shown).toMatch(/^2 +ours: ä +68\.4 KiB 2030-02-0\d \d\d:\d\d:05 03:25:45\.678 +987654321$/m);
      expect(shown).toMatch(/^1 +größe ✓ 日本 😀 +0 B /m);
    });
  });

  it('get the ids that QEMU gives', async () => {
    await inTemporaryDirectory(async (path) => {
      const [ours, theirs] = [path('ours.qcow2'), path('theirs.qcow2')];
      for (const file of [ours, theirs]) qemuCreate(file, { size: MEBIBYTE });
      const make = async (name: string) => {
        await withOurs(ours, (image) => createSnapshot(image, { name }));
        qemuImg('snapshot', '-c', name, theirs);
      };
      const remove = async (name: string) => {
        await withOurs(ours, (image) => runToEnd(deleteSnapshot(image, { name })));
        qemuImg('snapshot', '-d', name, theirs);
      };
      for (const name of ['a', 'b', 'c', 'b']) await make(name);
      await remove('b'); // the first of the two
      await make('d');
      await remove('d');
      await remove('b');
      await make('e');
      await remove('a');
      await make('a');
      const idsAndNames = (file: string) => qemuSnapshots(file).map(({ id, name }) => `${id} ${name}`);
      expect(idsAndNames(ours)).toEqual(idsAndNames(theirs));
      expect(idsAndNames(ours)).toEqual(['3 c', '4 e', '5 a']);
    });
  });

  it('are kept byte for byte while others come and go, with extra data that nobody knows', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: MEBIBYTE, options: { cluster_size: 4096 } });
      for (const name of ['one', 'two', 'three']) {
        qemuIo(file, [`write -P ${name.length} 0 50k`]);
        qemuImg('snapshot', '-c', name, file);
      }
      const [one, two, three] = entriesOf(file);
      const unknown = Buffer.concat([two!.subarray(40, 64), Buffer.from('to be known in 2040')]);
      const long = Buffer.concat([three!.subarray(40, 64), Buffer.alloc(1000, 0x5a)]);
      // Bytes that are no UTF-8.
      one!.fill(0xff, 65, 68);
      replaceEntries(file, [one!, withExtra(two!, unknown), withExtra(three!, long)]);
      expectCleanCheck(file, 'of what the test has made');
      const kept = entriesOf(file);

      await withOurs(file, (image) => {
        createSnapshot(image, { name: 'four' });
        image.write(0, new Uint8Array(9000).fill(9));
        gotoSnapshot(image, 'two');
        runToEnd(deleteSnapshot(image, 'four'));
        createSnapshot(image, { name: 'five' });
      });
      expectCleanCheck(file);
      expect(entriesOf(file).slice(0, 3)).toEqual(kept);
      await withOurs(file, (image) => {
        runToEnd(deleteSnapshot(image, 'two'));
        gotoSnapshot(image, { id: '1' });
        expectSameBytes(readWhole(image).subarray(0, 51_200), new Uint8Array(51_200).fill(3), 'the disk of the first');
      });
      expectCleanCheck(file);
      expect(entriesOf(file).slice(0, 2)).toEqual([kept[0], kept[2]]);
    });
  });

  it('of version 2 may have little extra data, or none', async () => {
    await inTemporaryDirectory(async (path) => {
      for (const extraBytes of [0, 4, 8, 12, 16]) {
        const file = path(`image-${extraBytes}.qcow2`);
        qemuCreate(file, { size: MEBIBYTE, options: { compat: '0.10', cluster_size: 4096 } });
        qemuIo(file, ['write -P 1 0 100k']);
        qemuImg('snapshot', '-c', 'old', file);
        const [entry] = entriesOf(file);
        entry!.writeUInt32BE(1234, 32);
        entry!.writeBigUInt64BE(5678n, 40);
        replaceEntries(file, [withExtra(entry!, entry!.subarray(40, 40 + extraBytes))]);
        qemuIo(file, ['write -P 2 0 100k']);
        const kept = entriesOf(file);

        await withOurs(file, (image) => {
          expect(listSnapshots(image)).toMatchObject([
            { id: '1', vmStateBytes: extraBytes < 8 ? 1234 : 5678, diskSize: MEBIBYTE, instructionCount: null },
          ]);
          createSnapshot(image, { name: 'new' });
          gotoSnapshot(image, 'old');
        });
        expectCleanCheck(file, `with ${extraBytes} bytes of extra data`);
        expect(entriesOf(file).slice(0, 1)).toEqual(kept);
        expect(await withOurs(file, asQemuLists, { readOnly: true })).toEqual(qemuSnapshots(file));
        expectSameBytes(qemuBytes(file).subarray(0, 102_400), new Uint8Array(102_400).fill(1), 'the disk');
      }
    });
  });
});

function writeState(image: Qcow2Image, length: number, seed: number): Uint8Array {
  const state = Uint8Array.from({ length }, (_, index) => 1 + ((index * seed) >> 9));
  writeVmState(image, 0, state);
  return state;
}

describe('VM state', () => {
  for (const options of [
    { cluster_size: 512 },
    { cluster_size: 65_536 },
    { cluster_size: 16_384, extended_l2: 'on' },
    { cluster_size: 4096, compat: '0.10' },
  ] as const) {
    it(`lies where QEMU reads and writes it (${JSON.stringify(options)})`, async () => {
      await inTemporaryDirectory(async (path) => {
        const file = path('image.qcow2');
        // The disk ends in the middle of a cluster, and of what an L1 entry maps.
        qemuCreate(file, { size: 3 * MEBIBYTE + 512, options });
        qemuIo(file, ['write -P 1 0 1M', 'write -b -P 7 0 100k', 'write -b -P 8 1000k 70k']);
        const expected = new Uint8Array(1_096_180);
        expected.fill(7, 0, 102_400).fill(8, 1_024_000, 1_095_680);
        await withOurs(file, (image) => {
          const read = new Uint8Array(expected.length).fill(0xa5);
          readVmState(image, 0, read);
          expectSameBytes(read, expected, 'the VM state that QEMU wrote');
          writeVmState(image, 50_176, new Uint8Array(10_240).fill(9));
          writeVmState(image, 200_192, new Uint8Array(300_032).fill(10), { compress: options.cluster_size > 512 });
        });
        expectCleanCheck(file);
        qemuIo(file, [
          'read -b -P 7 0 50176',
          'read -b -P 9 50176 10240',
          'read -b -P 7 60416 41984',
          'read -b -P 10 200192 300032',
          'read -b -P 8 1000k 70k',
          'read -P 1 0 1M',
        ]);
        await withOurs(file, (image) => createSnapshot(image, { name: 'with', vmStateBytes: 1_095_680 }));
        qemuImg('snapshot', '-a', 'with', file);
        expectCleanCheck(file);
        qemuIo(file, ['read -b -P 9 50176 10240', 'read -b -P 10 200192 300032', 'read -b -P 8 1000k 70k']);
        await withOurs(file, discardVmState);
        expectCleanCheck(file);
        qemuIo(file, ['read -b -P 0 0 1100k']);
      });
    });
  }
});

describe('snapshots of disks of other sizes', () => {
  it('are gone to by both, and the disk is resized by both in between', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      createOurs(file, { size: MEBIBYTE, clusterSize: 512 });
      const virtualSize = () => qemuInfo(file)['virtual-size'];
      qemuIo(file, ['write -P 1 0 1M']);
      qemuImg('snapshot', '-c', 'small', file);
      await withOurs(file, (image) => runToEnd(resizeImage(image, { size: 5 * MEBIBYTE })));
      qemuIo(file, ['write -P 2 1M 4M']);
      await withOurs(file, (image) => createSnapshot(image, { name: 'large' }));
      qemuImg('resize', '-q', '--shrink', file, '64k');
      expectCleanCheck(file);

      for (const goTo of [qemuGoTo, ourGoTo]) {
        await goTo(file, 'large');
        expectCleanCheck(file, 'after going to the large one');
        expect(virtualSize()).toBe(5 * MEBIBYTE);
        qemuIo(file, ['read -P 1 0 1M', 'read -P 2 1M 4M']);
        await goTo(file, 'small');
        expectCleanCheck(file, 'after going to the small one');
        expect(virtualSize()).toBe(MEBIBYTE);
        qemuIo(file, ['read -P 1 0 1M']);
        // What is new reads as zeroes, not as what the large one had there.
        qemuImg('resize', '-q', file, '3M');
        qemuIo(file, ['read -P 1 0 1M', 'read -P 0 1M 2M']);
        await withOurs(file, (image) => runToEnd(resizeImage(image, { size: 4 * MEBIBYTE })));
        qemuIo(file, ['read -P 1 0 1M', 'read -P 0 1M 3M']);
        expectCleanCheck(file, 'after resizing');
      }
      await withOurs(file, (image) => runToEnd(deleteSnapshot(image, 'large')));
      expectCleanCheck(file);
    });
  });

  const qemuGoTo = (file: string, name: string) => void qemuImg('snapshot', '-a', name, file);
  const ourGoTo = (file: string, name: string) => withOurs(file, (image) => gotoSnapshot(image, name));
});

describe('a width that can not count one more', () => {
  it('is told by both, and the file of ours is as it was', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: MEBIBYTE, options: { cluster_size: 4096, refcount_bits: 1 } });
      qemuIo(file, ['write -P 1 0 100k']);
      const before = readFileSync(file);
      const refused = await withOurs(file, (image) => {
        try {
          return createSnapshot(image, { name: 'a' }).id;
        } catch (error) {
          return isQcow2Error(error) ? error.code : 'another error';
        }
      });
      expect(refused).toBe('LIMIT');
      expect(Buffer.compare(readFileSync(file), before)).toBe(0);
      expect(() => qemuImg('snapshot', '-c', 'a', file)).toThrow(/Could not create snapshot/);
    });
  });

  it('of two bits holds two snapshots of ours, which QEMU reads and deletes', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      qemuCreate(file, { size: MEBIBYTE, options: { cluster_size: 4096, refcount_bits: 2 } });
      qemuIo(file, ['write -P 1 0 100k']);
      await withOurs(file, (image) => {
        createSnapshot(image, { name: 'a' });
        createSnapshot(image, { name: 'b' });
        gotoSnapshot(image, 'a');
        image.write(5000, new Uint8Array(9000).fill(2));
      });
      expectCleanCheck(file);
      for (const name of ['a', 'b']) {
        const bytes = qemuBytes(file, { snapshot: name });
        expectSameBytes(bytes.subarray(0, 102_400), new Uint8Array(102_400).fill(1), name);
      }
      qemuImg('snapshot', '-d', 'a', file);
      qemuImg('snapshot', '-d', 'b', file);
      expectCleanCheck(file);
      qemuIo(file, ['read -P 1 0 5000', 'read -P 2 5000 9000', 'read -P 1 14000 88400']);
    });
  });
});
