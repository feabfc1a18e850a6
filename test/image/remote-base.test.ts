/**
 * A base image that is elsewhere: every operation faults, is settled and runs again, and has changed nothing before.
 */
import { describe, expect, it } from 'vitest';
import { createImage, MemoryStorage, openImage, Qcow2Error, RawDisk, settle } from '../../src/index.js';
import type { Qcow2Image } from '../../src/index.js';
import { randomRange, readWhole } from '../support/disk-actions.js';
import { expectSameBytes, ModelDisk } from '../support/model-disk.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { FailingStorage } from '../storage/failing.js';
import { RemoteStorage } from '../storage/remote.js';
import { patternBytes } from '../storage/conformance.js';

const SIZE = 0x10_0000;
const CHUNK_BYTES = 0x4000;
const CLUSTER_SIZE = 4096;

interface Overlay {
  readonly image: Qcow2Image;
  readonly file: FailingStorage;
}

function overlayOn(remote: RemoteStorage, clusterSize = CLUSTER_SIZE): Overlay {
  const file = new FailingStorage();
  createImage(file, { size: SIZE, clusterSize, backing: { name: 'http://base', format: 'raw' } });
  return { image: openImage(file, { backing: new RawDisk(remote) }), file };
}

function attempt(operation: () => void): unknown {
  try {
    operation();
  } catch (error) {
    return error;
  }
  return undefined;
}

describe('an overlay on a remote raw base', () => {
  it('faults on a read, and reads after the load', async () => {
    const content = patternBytes(SIZE);
    const { image } = overlayOn(new RemoteStorage(content, { chunkBytes: CHUNK_BYTES }));
    const target = new Uint8Array(10_000);
    expect(attempt(() => image.read(30_000, target))).toMatchObject({ name: 'NotResident' });
    await settle(() => image.read(30_000, target));
    expectSameBytes(target, content.subarray(30_000, 40_000), 'the read');
  });

  it('is unchanged by a partial write that faults, in the file and to the guest', async () => {
    const content = patternBytes(SIZE);
    const remote = new RemoteStorage(content, { chunkBytes: CHUNK_BYTES });
    const { image, file } = overlayOn(remote);
    image.flush();
    const before = file.inner.toBytes();
    const writes = file.calls.write;

    // Starts and ends inside clusters of different chunks: two places to copy from.
    expect(attempt(() => image.write(16_000, new Uint8Array(50_000).fill(1)))).toMatchObject({ name: 'NotResident' });
    image.flush();

    expect(file.calls.write).toBe(writes);
    expectSameBytes(file.inner.toBytes(), before, 'the file');
    expect([...image.extents(0, SIZE)].every((extent) => extent.kind === 'backing')).toBe(true);
    await settle(() => image.write(16_000, new Uint8Array(50_000).fill(1)));
    const expected = content.fill(1, 16_000, 66_000);
    expectSameBytes(await settle(() => readWhole(image)), expected, 'the disk');
  });

  it('is unchanged by partial zeroes that fault', async () => {
    const content = patternBytes(SIZE);
    const { image, file } = overlayOn(new RemoteStorage(content, { chunkBytes: CHUNK_BYTES }));
    image.flush();
    const before = file.inner.toBytes();
    expect(attempt(() => image.writeZeroes(100, 20_000))).toMatchObject({ name: 'NotResident' });
    image.flush();
    expectSameBytes(file.inner.toBytes(), before, 'the file');
    await settle(() => image.writeZeroes(100, 20_000));
    expectSameBytes(await settle(() => readWhole(image)), content.fill(0, 100, 20_100), 'the disk');
  });

  it('fetches nothing for whole clusters that are written, and nothing again for what is local', async () => {
    const remote = new RemoteStorage(patternBytes(SIZE), { chunkBytes: CHUNK_BYTES });
    const { image } = overlayOn(remote);
    image.write(0, new Uint8Array(4 * CLUSTER_SIZE).fill(1));
    image.read(0, new Uint8Array(4 * CLUSTER_SIZE));
    expect(remote.faults).toBe(0);
  });

  it('fetches each chunk once, whatever is done', async () => {
    const title = 'random operations over a remote base';
    await withSeed(title, seedOfThisRun(7), async (random) => {
      const content = patternBytes(SIZE);
      const remote = new RemoteStorage(content, { chunkBytes: CHUNK_BYTES });
      const { image } = overlayOn(remote);
      const model = new ModelDisk({ size: SIZE, clusterSize: CLUSTER_SIZE, version: 3, backing: content });
      for (let index = 0; index < 300; index++) {
        const { offset, length } = randomRange(random, SIZE, CLUSTER_SIZE, 40_000);
        if (random.oneIn(2)) {
          const target = new Uint8Array(length);
          await settle(() => image.read(offset, target));
          expectSameBytes(target, model.bytes.subarray(offset, offset + length), `read ${index}`);
        } else {
          const source = random.bytes(length);
          await settle(() => image.write(offset, source));
          model.write(offset, source);
        }
      }
      expectSameBytes(await settle(() => readWhole(image)), model.bytes, 'the disk');
      expect([...remote.loads.values()].every((count) => count === 1)).toBe(true);
    });
  });

  it('passes on what load() fails with, and works again when the network is back', async () => {
    const offline = new Qcow2Error('IO', 'the network is down');
    let failure: unknown = offline;
    const content = patternBytes(SIZE);
    const { image } = overlayOn(new RemoteStorage(content, { chunkBytes: CHUNK_BYTES, failure: () => failure }));
    await expect(settle(() => image.read(0, new Uint8Array(10)))).rejects.toBe(offline);
    await expect(settle(() => image.write(5, Uint8Array.of(1)))).rejects.toBe(offline);

    failure = undefined;
    await settle(() => image.write(5, Uint8Array.of(1)));

    content[5] = 1;
    expectSameBytes(await settle(() => readWhole(image)), content, 'the disk');
  });
});

describe('a remote qcow2 image', () => {
  it('is opened, read and used as a base, tables and data fetched on demand, each chunk once', async () => {
    const content = patternBytes(SIZE);
    const base = new MemoryStorage();
    createImage(base, { size: SIZE, clusterSize: CLUSTER_SIZE });
    const writer = openImage(base);
    writer.write(0, content);
    writer.flush();
    const remote = new RemoteStorage(base.toBytes(), { chunkBytes: CHUNK_BYTES });
    writer.close();

    const below = await settle(() => openImage(remote, { readOnly: true }));
    const file = new MemoryStorage();
    createImage(file, { size: SIZE, clusterSize: CLUSTER_SIZE, backing: { name: 'base', format: 'qcow2' } });
    const image = openImage(file, { backing: below });
    await settle(() => image.write(70_000, Uint8Array.of(1, 2, 3)));

    content.set([1, 2, 3], 70_000);
    expectSameBytes(await settle(() => readWhole(image)), content, 'the disk');
    expect([...remote.loads.values()].every((count) => count === 1)).toBe(true);
    expect(remote.closed).toBe(false);
  });
});
