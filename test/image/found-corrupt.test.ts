/**
 * Images that turn out to be corrupt while they are in use. Which findings mark the image and which only fail the request was
 * found by asking QEMU 7.2; `test/interop/found-corrupt.test.ts` asks it again.
 */
import { describe, expect, it } from 'vitest';
import { MemoryStorage, openImage, type CorruptionEvent, type OpenOptions } from '../../src/index.js';
import { expectSameBytes } from '../support/model-disk.js';
import { CLUSTER_SIZE, DISK_SIZE, FIELD, smallImage, type SmallImage } from './damaged.js';

const COPIED = 1n << 63n;
const CORRUPT_BIT = 2n;

/** Opens a damaged image and keeps what it tells. */
function openDamaged(damage: (image: SmallImage) => void, options: OpenOptions & { version?: 2 | 3 } = {}) {
  const { version = 3, ...open } = options;
  const image = smallImage(version);
  damage(image);
  const storage = new MemoryStorage(image.bytes.slice());
  const events: CorruptionEvent[] = [];
  const opened = openImage(storage, { ...open, onCorruption: (event) => events.push(event) });
  const incompatible = () => new DataView(storage.toBytes().buffer).getBigUint64(FIELD.incompatible);
  return { before: image.bytes, storage, image: opened, events, isMarked: () => (incompatible() & CORRUPT_BIT) !== 0n };
}

const read = (bytes = 16) => new Uint8Array(bytes);
const corrupt = expect.objectContaining({ name: 'Qcow2Error', code: 'CORRUPT' });
const misalignedData = ({ view, l2 }: SmallImage) => view.setBigUint64(l2, view.getBigUint64(l2) + 512n);

describe('an image found corrupt', () => {
  it('by a read is marked, tells of it once, and fails every later call with CORRUPT', () => {
    const { image, events, isMarked } = openDamaged(misalignedData);
    expect(() => image.read(0, read())).toThrow(corrupt);
    expect(isMarked()).toBe(true);
    expect(events).toEqual([
      {
        fatal: true,
        message: expect.stringMatching(/guest offset 0x0.*0x[0-9a-f]+200/) as string,
        facts: { fact: 'misaligned-cluster', guest: 0, host: expect.any(Number) as number },
      },
    ]);
    const later: (() => void)[] = [
      () => image.read(CLUSTER_SIZE, read()),
      () => image.write(DISK_SIZE / 2, read()),
      () => image.writeZeroes(0, 512),
      () => image.discard(0, CLUSTER_SIZE),
      () => image.extents(0, 512),
      () => image.resize(2 * DISK_SIZE),
      () => image.flush(),
      () => image.reopen({ readOnly: true }),
      () => image.inactivate(),
      () => image.invalidate(),
      () => image.cleanCaches(),
    ];
    for (const call of later) expect(call).toThrow(corrupt);
    expect(events).toHaveLength(1);
    expect(() => image.close()).not.toThrow();
  });

  it('keeps what was flushed, and writes nothing after the mark, the close included', () => {
    const { image, storage, isMarked } = openDamaged(misalignedData);
    image.write(DISK_SIZE / 2, new Uint8Array(CLUSTER_SIZE).fill(9));
    image.flush();
    image.write(DISK_SIZE / 2 + CLUSTER_SIZE, new Uint8Array(CLUSTER_SIZE).fill(8));
    expect(() => image.read(0, read())).toThrow(corrupt);
    const marked = storage.toBytes();
    image.close();
    expectSameBytes(storage.toBytes(), marked, 'the file after the close');
    expect(isMarked()).toBe(true);

    expect(() => openImage(new MemoryStorage(marked.slice()))).toThrow(corrupt);
    const readable = openImage(new MemoryStorage(marked), { readOnly: true });
    const target = read(CLUSTER_SIZE);
    readable.read(DISK_SIZE / 2, target);
    expect(target.every((byte) => byte === 9)).toBe(true);
  });

  it('of version 2, which has no bit for it, is unusable until it is opened again', () => {
    const { image, storage, before, events } = openDamaged(misalignedData, { version: 2 });
    expect(() => image.read(0, read())).toThrow(corrupt);
    expect(() => image.read(CLUSTER_SIZE, read())).toThrow(corrupt);
    expect(events.map(({ fatal }) => fatal)).toEqual([true]);
    image.close();
    expectSameBytes(storage.toBytes(), before, 'the file');
    expect(() => openImage(storage).read(CLUSTER_SIZE, read())).not.toThrow();
  });

  it('while open read-only is told of once, and goes on with what is whole', () => {
    const { image, storage, before, events } = openDamaged(misalignedData, { readOnly: true });
    for (let times = 0; times < 2; times++) expect(() => image.read(0, read())).toThrow(corrupt);
    expect(() => image.read(CLUSTER_SIZE, read())).not.toThrow();
    expect(events.map(({ fatal }) => fatal)).toEqual([false]);
    image.close();
    expectSameBytes(storage.toBytes(), before, 'the file');
  });

  it('can be read-only first and be marked when it has been reopened for writing', () => {
    const { image, events, isMarked } = openDamaged(misalignedData, { readOnly: true });
    expect(() => image.read(0, read())).toThrow(corrupt);
    image.reopen({ readOnly: false });
    expect(() => image.read(0, read())).toThrow(corrupt);
    expect(events.map(({ fatal }) => fatal)).toEqual([false, true]);
    expect(isMarked()).toBe(true);
  });

  it('with lazy refcounts keeps its dirty bit: the repair will want to know', () => {
    const { image, storage } = openDamaged(misalignedData, { lazyRefcounts: true });
    image.write(DISK_SIZE / 2, read());
    expect(() => image.read(0, read())).toThrow(corrupt);
    image.close();
    expect(new DataView(storage.toBytes().buffer).getBigUint64(FIELD.incompatible)).toBe(3n);
  });

  const fatal: [string, (image: SmallImage) => void, 'read' | 'write'][] = [
    ['an L2 table that is misaligned', ({ view, l1, l2 }) => view.setBigUint64(l1, COPIED | BigInt(l2 + 512)), 'read'],
    ['an allocated zero cluster that is misaligned', ({ view, l2 }) => view.setBigUint64(l2, COPIED | 0x5201n), 'read'],
    ['a cluster that is the L1 table', ({ view, l1, l2 }) => view.setBigUint64(l2, COPIED | BigInt(l1)), 'write'],
    ['a cluster that is its own L2 table', ({ view, l2 }) => view.setBigUint64(l2, COPIED | BigInt(l2)), 'write'],
    [
      'a refcount block that is misaligned',
      ({ view, refcountTable, refcountBlock }) => view.setBigUint64(refcountTable, BigInt(refcountBlock + 512)),
      'write',
    ],
    ...(['l1', 'l2', 'refcountTable', 'refcountBlock'] as const).map(
      (table): [string, (image: SmallImage) => void, 'write'] => [
        `the ${table} counted as free`,
        (image) => image.view.setUint16(image.refcountBlock + (2 * image[table]) / CLUSTER_SIZE, 0),
        'write',
      ],
    ),
  ];
  it.each(fatal)('for %s is marked', (_, damage, by) => {
    const { image, events, isMarked } = openDamaged(damage);
    expect(() => {
      if (by === 'read') image.read(0, read());
      // Takes a new cluster as well, whichever comes first.
      else for (const offset of [0, DISK_SIZE / 2]) image.write(offset, new Uint8Array(CLUSTER_SIZE));
    }).toThrow(corrupt);
    expect(isMarked()).toBe(true);
    expect(events.map((event) => event.fatal)).toEqual([true]);
  });

  it('for writing over a table names the place and the bytes of the write', () => {
    const { image, events } = openDamaged(({ view, l1, l2 }) => view.setBigUint64(l2, COPIED | BigInt(l1)));
    expect(() => image.write(100, new Uint8Array(50))).toThrow(corrupt);
    const l1 = smallImage().l1;
    expect(events[0]).toMatchObject({ fatal: true, offset: l1 + 100, size: 50 });
  });

  it('only when the guard looks: without overlap checks a write goes where it is told to', () => {
    const own = ({ view, l2 }: SmallImage) => view.setBigUint64(l2 + 8, COPIED | view.getBigUint64(l2));
    const { image, isMarked } = openDamaged(own, { overlapCheck: 'none' });
    image.write(0, read());
    expect(isMarked()).toBe(false);
  });
});

describe('an image that is damaged, but not marked for it,', () => {
  it('fails the request alone where the file has been cut', () => {
    const { image, events, isMarked } = openDamaged(({ view, l2 }) => view.setBigUint64(l2, COPIED | (1n << 40n)));
    expect(() => image.read(0, read())).toThrow(/the file ends at/);
    expect(() => image.read(CLUSTER_SIZE, read())).not.toThrow();
    expect(events).toEqual([]);
    expect(isMarked()).toBe(false);
  });

  it('goes on when a cluster is freed that counts as free already, and tells of it', () => {
    const { image, storage, events, isMarked } = openDamaged(({ view, l2, refcountBlock }) => {
      const host = Number(view.getBigUint64(l2) & 0x00ff_ffff_ffff_fe00n);
      view.setUint16(refcountBlock + (2 * host) / CLUSTER_SIZE, 0);
    });
    image.discard(0, CLUSTER_SIZE);
    image.flush();
    expect(events).toEqual([expect.objectContaining({ fatal: false, size: CLUSTER_SIZE })]);
    expect(isMarked()).toBe(false);
    image.discard(CLUSTER_SIZE, CLUSTER_SIZE);
    image.close();
    const target = read(3 * CLUSTER_SIZE);
    openImage(storage).read(0, target);
    expect(target.findIndex((byte) => byte !== 0)).toBe(2 * CLUSTER_SIZE);
  });
});
