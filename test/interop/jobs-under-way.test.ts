/**
 * Operations on whole images while the guest goes on: requests between two steps, jobs that are given up, jobs that fail.
 * qemu-img finds nothing wrong with what remains.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  createImage,
  MemoryStorage,
  openImage,
  RawDisk,
  type CreateOptions,
  type Disk,
  type Qcow2Image,
} from '../../src/index.js';
import { amendImage, type AmendOptions } from '../../src/operations/amend.js';
import { makeEmpty } from '../../src/operations/make-empty.js';
import { resizeImage } from '../../src/operations/resize.js';
import { runToEnd } from '../../src/util/steps.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import { expectCleanCheck, inTemporaryDirectory, qemuBytes, qemuImg } from './qemu.js';

const SIZE = 0x80_0000;

interface Made {
  readonly storage: MemoryStorage;
  readonly image: Qcow2Image;
}

function make(options: Omit<CreateOptions, 'size'> = {}, backing: Disk | null = null): Made {
  const storage = new MemoryStorage();
  const under = backing === null ? {} : { backing: { name: 'base', format: 'raw' } as const };
  createImage(storage, { size: SIZE, clusterSize: 512, ...options, ...under });
  return { storage, image: openImage(storage, { backing }) };
}

/** Closes the image and has qemu-img look at it. */
async function expectClean({ storage, image }: Made, when: string): Promise<void> {
  image.close();
  await inTemporaryDirectory((path) => {
    writeFileSync(path('image.qcow2'), storage.toBytes());
    writeFileSync(path('base'), '');
    expectCleanCheck(path('image.qcow2'), when);
  });
}

describe('a guest that goes on between two steps', () => {
  it('keeps what it writes while clusters of zeroes are expanded, those it makes itself included', async () => {
    const base = new Uint8Array(SIZE).fill(7);
    const made = make({}, new RawDisk(new MemoryStorage(base.slice())));
    const model = base;
    const { image } = made;
    const zero = (offset: number, length: number) => {
      image.writeZeroes(offset, length, { unmap: true });
      model.fill(0, offset, offset + length);
    };
    for (let at = 0; at < SIZE; at += 0x8000) zero(at, 5000);
    let steps = 0;
    for (const _ of amendImage(image, { version: 2 })) {
      if (image.header.version === 2) continue;
      zero((steps * 300_000) % (SIZE - 4096), 4096);
      const bytes = new Uint8Array(9000).fill(steps + 1);
      const offset = (steps * 1_234_567) % (SIZE - bytes.length);
      image.write(offset, bytes);
      model.set(bytes, offset);
      steps++;
    }
    expect(steps).toBeGreaterThan(2);
    expect(image.header.version).toBe(2);
    expectSameBytes(readWhole(image), model, 'the disk');
    await expectClean(made, 'expanded');
  });

  it.each([1, 64] as const)('keeps what it writes while refcounts become %i bits wide', async (refcountBits) => {
    const made = make();
    const { image } = made;
    const model = new Uint8Array(SIZE);
    let steps = 0;
    for (const _ of amendImage(image, { refcountBits })) {
      const bytes = new Uint8Array(70_000).fill(steps + 1);
      const offset = (steps * 400_000) % (SIZE - bytes.length);
      image.write(offset, bytes);
      image.discard(offset, 30_000);
      model.set(bytes, offset);
      model.fill(0, Math.ceil(offset / 512) * 512, Math.floor((offset + 30_000) / 512) * 512);
      steps++;
    }
    // The guest spoils some rounds; then the job no longer waits for it.
    expect(steps).toBeGreaterThan(4);
    expect(image.refcountBits).toBe(refcountBits);
    expectSameBytes(readWhole(image), model, 'the disk');
    await expectClean(made, 'widened');
  });

  it('sees the smaller disk at once when it shrinks', async () => {
    const made = make({ clusterSize: 4096 });
    const { image } = made;
    for (let at = 0; at < SIZE; at += 0x10_0000) image.write(at, new Uint8Array(0x10_0000).fill(1));
    for (const { what } of resizeImage(image, { size: 0x10_0000, shrink: true })) {
      if (what === 'preparing') continue;
      expect(image.size).toBe(0x10_0000);
      image.write(0x8_0000, new Uint8Array(5000).fill(2));
    }
    await expectClean(made, 'shrunk');
    expect(made.storage.size).toBeLessThan(0x18_0000);
  });

  it('sees the larger disk at the end only when it grows', async () => {
    const made = make();
    const { image } = made;
    for (const { what } of resizeImage(image, { size: 2 * SIZE, preallocation: 'metadata' })) {
      const published = ['publishing the size', 'storing the bitmaps', 'fitting the caches'].includes(what);
      expect(image.size).toBe(published ? 2 * SIZE : SIZE);
    }
    expect(image.size).toBe(2 * SIZE);
    await expectClean(made, 'grown');
  });
});

describe('an image that is reopened between two steps, with other tables in memory', () => {
  it.each([
    ['version 2', (image: Qcow2Image) => amendImage(image, { version: 2 })],
    ['refcounts of 64 bits', (image: Qcow2Image) => amendImage(image, { refcountBits: 64 })],
    ['a larger disk', (image: Qcow2Image) => resizeImage(image, { size: 2 * SIZE, preallocation: 'metadata' })],
    ['a smaller disk', (image: Qcow2Image) => resizeImage(image, { size: 0x20_0000, shrink: true })],
  ] as const)('still gets %s', async (_title, start) => {
    const made = make();
    const { image } = made;
    const model = new Uint8Array(SIZE);
    for (let at = 0; at < SIZE; at += 0x8000) {
      image.write(at, new Uint8Array(3000).fill(at / 0x8000));
      image.writeZeroes(at + 1024, 1024);
      model.fill(at / 0x8000, at, at + 3000).fill(0, at + 1024, at + 2048);
    }
    for (const _ of start(image)) {
      image.reopen({});
      image.write(100, Uint8Array.of(9));
      model[100] = 9;
    }
    const expected = new Uint8Array(image.size);
    expected.set(model.subarray(0, image.size));
    expectSameBytes(readWhole(image), expected, 'the disk');
    await expectClean(made, 'after it');
  });
});

describe('a job given up after any of its steps', () => {
  const jobs: readonly (readonly [string, Omit<CreateOptions, 'size'>, (image: Qcow2Image) => Iterable<unknown>])[] = [
    ['growing', {}, (image) => resizeImage(image, { size: 2 * SIZE, preallocation: 'metadata' })],
    ['shrinking', {}, (image) => resizeImage(image, { size: 512, shrink: true })],
    ['wider refcounts', {}, (image) => amendImage(image, { refcountBits: 64 })],
    ['version 2', {}, (image) => amendImage(image, { version: 2 })],
    ['emptying', { version: 2 }, (image) => makeEmpty(image)],
  ];
  for (const [title, options, start] of jobs) {
    it(`leaves a good image without a leak: ${title}`, async () => {
      let more = true;
      for (let after = 1; more; after++) {
        const made = make(options);
        made.image.write(0, new Uint8Array(0x30_0000).fill(1));
        if (options.version !== 2) made.image.writeZeroes(0x8_0000, 0x8_0000);
        let steps = 0;
        more = false;
        for (const _ of start(made.image)) {
          if (++steps === after) {
            more = true;
            break;
          }
        }
        made.image.write(0, new Uint8Array(512).fill(3));
        await expectClean(made, `given up after step ${after}`);
      }
    });
  }
});

describe('a version 2 image whose snapshots lack what version 3 asks for', () => {
  it('gets a complete snapshot table', async () => {
    await inTemporaryDirectory((path) => {
      const file = path('image.qcow2');
      qemuImg('create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', file, '1M');
      qemuImg('snapshot', '-c', 'the first', file);
      qemuImg('snapshot', '-c', 'second', file);
      const old = withoutExtraData(readFileSync(file));
      const storage = new MemoryStorage(old);
      const image = openImage(storage);
      image.write(0, new Uint8Array(100_000).fill(4));
      runToEnd(amendImage(image, { version: 3 }));
      image.close();
      writeFileSync(file, storage.toBytes());
      expectCleanCheck(file);
      expect(qemuImg('snapshot', '-l', file)).toMatch(/the first[^]*second/);
      expectSameBytes(qemuBytes(file, { snapshot: 'the first' }), new Uint8Array(0x10_0000), 'the snapshot');
    });
  });
});

/** The image with its snapshot table as very old software wrote it: no extra data in its entries. */
function withoutExtraData(file: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(file);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const start = Number(view.getBigUint64(64));
  let from = start;
  let to = start;
  for (let index = 0; index < view.getUint32(60); index++) {
    const extra = view.getUint32(from + 36);
    const names = view.getUint16(from + 12) + view.getUint16(from + 14);
    const next = from + Math.ceil((40 + extra + names) / 8) * 8;
    const entry = new Uint8Array(Math.ceil((40 + names) / 8) * 8);
    entry.set(file.subarray(from, from + 36));
    entry.set(file.subarray(from + 40 + extra, from + 40 + extra + names), 40);
    bytes.set(entry, to);
    from = next;
    to += entry.length;
  }
  return bytes.fill(0, to, Math.min(from, bytes.length));
}

describe('what can not be is refused before anything changes', () => {
  const CASES: readonly (readonly [AmendOptions, string, RegExp])[] = [
    [{ refcountBits: 3 }, 'BAD_ARGUMENT', /refcountBits is 3; it must be one of 1, 2, 4/],
    [{ version: 2, refcountBits: 8 }, 'BAD_ARGUMENT', /refcountBits is 8; version 2 has 16 only/],
    [{ version: 2, lazyRefcounts: true }, 'BAD_ARGUMENT', /lazyRefcounts needs version 3/],
    [{ dataFileName: 'data' }, 'BAD_ARGUMENT', /this one has none/],
    [{ dataFileRaw: true }, 'BAD_ARGUMENT', /when an image is created only/],
    [{ version: 2, size: 1000 }, 'BAD_ARGUMENT', /size is 1000/],
    [{ refcountBits: 64, backing: { name: '', format: 'raw' } }, 'BAD_ARGUMENT', /name of the backing file is empty/],
  ];
  it.each(CASES)('%j', (options, code, message) => {
    const { storage, image } = make();
    const before = storage.toBytes();
    expect(() => amendImage(image, options)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) as string }),
    );
    expect(Buffer.compare(storage.toBytes(), before)).toBe(0);
  });

  it('an image opened read-only', () => {
    const { storage } = make();
    const image = openImage(storage, { readOnly: true });
    expect(() => amendImage(image, { version: 2 })).toThrow(expect.objectContaining({ code: 'READ_ONLY' }));
    expect(() => makeEmpty(image)).toThrow(expect.objectContaining({ code: 'READ_ONLY' }));
  });
});
