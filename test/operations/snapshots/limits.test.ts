/** What can't be is refused with a clear error, and nothing has changed; what just fits is done. */
import { describe, expect, it } from 'vitest';
import {
  checkImage,
  createImage,
  createSnapshot,
  deleteSnapshot,
  gotoSnapshot,
  isQcow2Error,
  listSnapshots,
  MemoryStorage,
  openImage,
  openSnapshot,
  runToEnd,
  vmStateOffset,
  writeVmState,
  type CreateOptions,
  type NewSnapshot,
  type Qcow2Error,
  type Qcow2Image,
} from '../../../src/index.js';
import { Qcow2Bytes } from '../../support/qcow2-bytes.js';

function fresh(options: Partial<CreateOptions> = {}): { storage: MemoryStorage; image: Qcow2Image } {
  const storage = new MemoryStorage();
  createImage(storage, { size: 0x10_0000, clusterSize: 4096, ...options });
  return { storage, image: openImage(storage) };
}

function errorOf(operation: () => void): Qcow2Error {
  try {
    operation();
  } catch (error) {
    if (isQcow2Error(error)) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

/** Has `operation` refused; the file is byte for byte what it was, and no less after it was closed. */
function expectRefused(storage: MemoryStorage, image: Qcow2Image, operation: () => void): Qcow2Error {
  image.flush();
  const before = storage.toBytes();
  const error = errorOf(operation);
  expect(Buffer.compare(storage.toBytes(), before), error.message).toBe(0);
  image.flush();
  expect(runToEnd(checkImage(new MemoryStorage(storage.toBytes()))).findings).toEqual([]);
  return error;
}

describe('refcounts of one bit', () => {
  it('can hold no snapshot of a disk with data, and say so', () => {
    const { storage, image } = fresh({ refcountBits: 1 });
    image.write(0, new Uint8Array(50_000).fill(1));
    const error = expectRefused(storage, image, () => createSnapshot(image, { name: 'a' }));
    expect(error.code).toBe('LIMIT');
    expect(error.message).toMatch(/refcount 1 .* would have 2; with 1 bits/);
  });

  it('can hold one of an empty disk, with a VM state of its own, which the active disk can then not have as well', () => {
    const { storage, image } = fresh({ refcountBits: 1 });
    const state = new Uint8Array(20_000).fill(7);
    writeVmState(image, 0, state);
    createSnapshot(image, { name: 'empty', vmStateBytes: state.length });
    image.write(0, new Uint8Array(50_000).fill(1));
    expect(expectRefused(storage, image, () => gotoSnapshot(image, 'empty')).code).toBe('LIMIT');
    expect(writeVmState(image, 0, state, { like: 'empty' })).toEqual({ stored: state.length, shared: 0, zero: 0 });
    gotoSnapshot(image, 'empty', { vmState: 'drop' });
    const read = new Uint8Array(50_000).fill(1);
    image.read(0, read);
    expect(read.every((byte) => byte === 0)).toBe(true);
    runToEnd(deleteSnapshot(image, 'empty'));
    image.close();
    expect(runToEnd(checkImage(storage)).findings).toEqual([]);
  });
});

describe('refcounts of few bits', () => {
  for (const refcountBits of [2, 4] as const) {
    it(`hold as many references as they can count (${refcountBits} bits)`, () => {
      const { storage, image } = fresh({ refcountBits });
      image.write(0, new Uint8Array(50_000).fill(1));
      const most = 2 ** refcountBits - 2;
      for (let number = 1; number <= most; number++) createSnapshot(image, { name: `snapshot ${number}` });
      const refused = expectRefused(storage, image, () => createSnapshot(image, { name: 'one too many' }));
      expect(refused.code).toBe('LIMIT');
      // What the active disk gives up and takes is weighed together.
      gotoSnapshot(image, '1');
      // Written over, nothing of the old is counted any more for the active disk.
      image.write(0, new Uint8Array(50_000).fill(2));
      image.discard(0, image.size);
      createSnapshot(image, { name: 'of nothing' });
      expect(listSnapshots(image)).toHaveLength(most + 1);
      image.close();
      expect(runToEnd(checkImage(storage)).findings).toEqual([]);
    });
  }
});

describe('what a snapshot is called and says', () => {
  const REFUSED: readonly NewSnapshot[] = [
    { name: 'x'.repeat(256) },
    { name: 'ä'.repeat(128) },
    { name: 'a\0b' },
    { name: 'half a pair \ud800' },
    { name: '\ufeffmark' },
    { name: 'a', id: '' },
    { name: 'a', id: 'x'.repeat(128) },
    { name: 'a', id: '\udc00' },
    { name: 'a', id: '\ufeff1' },
    { name: 'a', id: '1' },
    { name: 'a', date: -1 },
    { name: 'a', date: Number.NaN },
    { name: 'a', date: 2 ** 32 * 1000 },
    { name: 'a', vmClock: -1n },
    { name: 'a', vmClock: 2n ** 64n },
    { name: 'a', instructionCount: -1n },
    { name: 'a', instructionCount: 2n ** 64n - 1n },
    { name: 'a', vmStateBytes: -1 },
    { name: 'a', vmStateBytes: 0.5 },
  ];
  for (const options of REFUSED) {
    const shown = Object.entries(options).map(([field, value]) => `${field} ${escape(String(value).slice(0, 20))}`);
    it(`is refused where it can't be: ${shown.join(', ')}`, () => {
      const { storage, image } = fresh();
      createSnapshot(image, { name: 'there' });
      expect(expectRefused(storage, image, () => createSnapshot(image, options)).code).toBe('BAD_ARGUMENT');
    });
  }

  it('comes back as it was given, at its limits', () => {
    const { storage, image } = fresh();
    const wanted = {
      id: 'ß'.repeat(63),
      name: `${'😀'.repeat(63)}abc`,
      date: (2 ** 32 - 1) * 1000 + 999.5,
      vmClock: 2n ** 64n - 1n,
      instructionCount: 2n ** 64n - 2n,
    };
    createSnapshot(image, wanted);
    createSnapshot(image, { name: '', date: 0 });
    image.close();
    const [first, second] = listSnapshots(openImage(storage, { readOnly: true }));
    expect(first).toEqual({
      ...{ id: wanted.id, name: wanted.name, vmClock: wanted.vmClock, instructionCount: wanted.instructionCount },
      date: { seconds: 2 ** 32 - 1, nanoseconds: 999_500_000 },
      vmStateBytes: 0,
      diskSize: 0x10_0000,
    });
    expect(second).toMatchObject({ id: '1', name: '', date: { seconds: 0, nanoseconds: 0 }, instructionCount: null });
  });

  it('takes the first id above all numbers in use, as QEMU does', () => {
    const { image } = fresh();
    const ids = ['7', '3', 'x9', '12abc', 'abc'];
    for (const id of ids) createSnapshot(image, { name: 'named', id });
    expect(createSnapshot(image, { name: 'next' }).id).toBe('13');
    runToEnd(deleteSnapshot(image, { id: '13' }));
    expect(createSnapshot(image, { name: 'next' }).id).toBe('13');
    runToEnd(deleteSnapshot(image, { id: '12abc' }));
    expect(createSnapshot(image, { name: 'next' }).id).toBe('14');
  });

  it('is found by its id before another one is by its name, and by a name the first of them', () => {
    const { image } = fresh();
    image.write(0, new Uint8Array(100).fill(1));
    createSnapshot(image, { name: '2' });
    image.write(0, new Uint8Array(100).fill(2));
    createSnapshot(image, { name: 'twice' });
    image.write(0, new Uint8Array(100).fill(3));
    createSnapshot(image, { name: 'twice' });
    const firstByte = (key: Parameters<typeof openSnapshot>[1]) => {
      const read = new Uint8Array(1);
      openSnapshot(image, key).read(0, read);
      return read[0];
    };
    expect([firstByte('2'), firstByte({ name: '2' }), firstByte('twice'), firstByte({ id: '3' })]).toEqual([
      2, 1, 2, 3,
    ]);
    expect(errorOf(() => openSnapshot(image, { id: 'twice' })).code).toBe('NOT_FOUND');
    expect(errorOf(() => gotoSnapshot(image, 'nowhere')).code).toBe('NOT_FOUND');
    expect(errorOf(() => deleteSnapshot(image, { name: '3' })).code).toBe('NOT_FOUND');
  });
});

describe('what the tables can hold', () => {
  it('is the end of VM state', () => {
    const { storage, image } = fresh({ clusterSize: 512, size: 0x1_0000 });
    const most = (0x200_0000 / 8) * 64 * 512;
    for (const offset of [most, 2 ** 52, 2 ** 53 - 1]) {
      const error = expectRefused(storage, image, () => writeVmState(image, offset, new Uint8Array(0)));
      expect(error.code, String(offset)).toBe('LIMIT');
    }
    const error = expectRefused(storage, image, () => writeVmState(image, 2 ** 53 - 1, new Uint8Array(1)));
    expect(error.code).toBe('BAD_ARGUMENT');
    expect(
      expectRefused(storage, image, () => createSnapshot(image, { name: 'a', vmStateBytes: 2 ** 53 - 1 })).code,
    ).toBe('LIMIT');
  });

  it('starts VM state behind all that the L1 entries of the disk map', () => {
    for (const [size, offset] of [
      [0, 0],
      [512, 0x20_0000],
      [0x20_0000, 0x20_0000],
      [0x20_0200, 0x40_0000],
    ] as const) {
      expect(vmStateOffset(fresh({ size }).image), String(size)).toBe(offset);
    }
  });

  it('is a disk of no bytes, too', () => {
    const { storage, image } = fresh({ size: 0 });
    createSnapshot(image, { name: 'nothing' });
    writeVmState(image, 0, new Uint8Array(5000).fill(3));
    createSnapshot(image, { name: 'state only', vmStateBytes: 5000 });
    gotoSnapshot(image, 'nothing');
    gotoSnapshot(image, 'state only');
    expect(openSnapshot(image, 'state only').size).toBe(0);
    runToEnd(deleteSnapshot(image, 'nothing'));
    image.close();
    expect(runToEnd(checkImage(storage)).findings).toEqual([]);
  });

  for (const bytes of [513, 0x40_0001 * 512 * 4096, 2 ** 52]) {
    it(`is not a disk of ${bytes} bytes, whatever a snapshot says`, () => {
      const { storage, image } = fresh();
      image.write(0, new Uint8Array(5000).fill(1));
      createSnapshot(image, { name: 'a' });
      image.close();
      const file = new Qcow2Bytes(storage.toBytes());
      file.setBits(file.snapshotsOffset + 48, BigInt(bytes));
      const damaged = new MemoryStorage(new Uint8Array(file.bytes));
      const again = openImage(damaged);
      expect(expectRefused(damaged, again, () => gotoSnapshot(again, 'a')).code).toBe('BAD_IMAGE');
    });
  }
});
