/**
 * Images that come in: what they are is told by their first bytes, raw ones become qcow2 images on the way, and what is damaged is refused
 * before anything is replaced.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  checkImage,
  createImage,
  createSnapshot,
  MemoryStorage,
  openImage,
  runToEnd,
  type CreateOptions,
} from '../../src/index.js';
import type { Progress } from '../../src/util/progress.js';
import type { WorkerClient } from '../../src/worker/client.js';
import { checkRawSize, openImageSource, recognized } from '../../src/worker/image-source.js';
import { storeStream, type StoreOptions } from '../../src/worker/store-stream.js';
import { patternBytes } from '../storage/conformance.js';
import { readWhole } from '../support/disk-actions.js';
import { closeConnections, connect } from './connect.js';
import { MemoryFolder } from './memory-files.js';
import { expectSameBytes } from './same-bytes.js';

const MIB = 1 << 20;
const OLD = patternBytes(3000, 1);
const TARGET = { directory: 'disks', name: 'disk.qcow2' };
const IMAGE: StoreOptions = { image: { backing: [] } };
const RAW: StoreOptions = { ...IMAGE, convert: 'raw' };

let folder: MemoryFolder;
let client: WorkerClient;

beforeEach(() => {
  folder = new MemoryFolder();
  folder.files.set('disk.qcow2', OLD.slice());
  client = connect(folder.openDirectory).client;
});
afterEach(closeConnections);

/** Pieces of odd lengths, as they come from a network. */
function streamOf(bytes: Uint8Array, pieceBytes = 70_001): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      controller.enqueue(bytes.slice(at, at + pieceBytes));
      at += pieceBytes;
    },
  });
}

function store(bytes: Uint8Array, options: StoreOptions) {
  return storeStream(client, TARGET, { stream: streamOf(bytes), total: bytes.length }, options);
}

function expectOldFile(): void {
  expect([...folder.files.keys()]).toEqual(['disk.qcow2']);
  expectSameBytes(folder.content('disk.qcow2'), OLD);
  expect(folder.claims.size).toBe(0);
}

function imageBytes(options: CreateOptions): Uint8Array<ArrayBuffer> {
  const storage = new MemoryStorage();
  createImage(storage, options);
  const image = openImage(storage);
  image.write(0, patternBytes(300_000));
  createSnapshot(image, { name: 'one' });
  image.write(100_000, patternBytes(100_000, 3));
  image.close();
  return storage.toBytes();
}

describe('a raw image', () => {
  it('becomes a qcow2 that reads the same; its zeroes take no room', async () => {
    const raw = new Uint8Array(20 * MIB + 512);
    raw.set(patternBytes(MIB), 3 * MIB + 1000);
    raw.set([1], raw.length - 1);
    const info = await store(raw, RAW);
    expect(info).toMatchObject({ size: raw.length, version: 3, backingFile: null });
    const stored = new MemoryStorage(folder.content('disk.qcow2').slice());
    expect(stored.size).toBeLessThan(3 * MIB);
    expect(runToEnd(checkImage(stored))).toMatchObject({ corruptions: 0, leaks: 0, checkErrors: 0 });
    expectSameBytes(readWhole(openImage(stored)), raw);
    expect([...folder.files.keys()]).toEqual(['disk.qcow2']);
  });

  it('may end inside a sector, which is filled up with zeroes', async () => {
    const raw = patternBytes(MIB + 1);
    expect(await store(raw, RAW)).toMatchObject({ size: MIB + 512 });
    const disk = readWhole(openImage(new MemoryStorage(folder.content('disk.qcow2').slice())));
    expectSameBytes(disk.subarray(0, raw.length), raw);
    expectSameBytes(disk.subarray(raw.length), new Uint8Array(511));
  });

  it('is refused where there is nothing of it, and the old file stays', async () => {
    await expect(store(new Uint8Array(0), RAW)).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    expectOldFile();
  });

  it('leaves the old file when its length turns out to be none', async () => {
    const stored = storeStream(
      client,
      TARGET,
      { stream: streamOf(patternBytes(5000)), total: null },
      { ...RAW, checkLength: checkRawSize },
    );
    await expect(stored).rejects.toMatchObject({ code: 'NOT_QCOW2' });
    expectOldFile();
  });

  it('leaves the old file when its signal ends it', async () => {
    const abort = new AbortController();
    const options = { ...RAW, signal: abort.signal, onProgress: () => abort.abort() };
    await expect(store(patternBytes(4 * MIB), options)).rejects.toMatchObject({ code: 'ABORTED' });
    expectOldFile();
  });
});

describe('a qcow2', () => {
  const bytes = imageBytes({ size: 4 * MIB, clusterSize: 4096 });

  it('is checked before it is used, and the progress says so', async () => {
    const seen: Progress[] = [];
    const info = await store(bytes, { ...IMAGE, onProgress: (step) => seen.push(step) });
    expect(info).toMatchObject({ size: 4 * MIB, clusterSize: 4096 });
    expect(seen.at(-1)).toEqual({ done: bytes.length, total: bytes.length, what: 'checking disk.qcow2' });
  });

  it('that is damaged is refused in the words of the check, and the old file stays', async () => {
    const damaged = bytes.slice();
    const view = new DataView(damaged.buffer);
    // The refcount block of the first cluster: all counts of its end are gone.
    const block = Number(view.getBigUint64(Number(view.getBigUint64(48))));
    damaged.fill(0, block + 20, block + 60);
    await expect(store(damaged, IMAGE)).rejects.toMatchObject({
      code: 'CORRUPT',
      message: expect.stringMatching(/^the image is damaged: \d+ errors, such as: .*refcount/) as string,
    });
    expectOldFile();
  });

  it('that has leaked clusters is taken', async () => {
    const leaking = new Uint8Array(bytes.length + 4096);
    leaking.set(bytes);
    const view = new DataView(leaking.buffer);
    const block = Number(view.getBigUint64(Number(view.getBigUint64(48))));
    view.setUint16(block + 2 * Math.ceil(bytes.length / 4096), 1);
    expect(runToEnd(checkImage(new MemoryStorage(leaking.slice()))).leaks).toBeGreaterThan(0);
    await store(leaking, IMAGE);
    expectSameBytes(folder.content('disk.qcow2'), leaking);
  });

  it('that was left dirty is repaired first', async () => {
    const storage = new MemoryStorage();
    createImage(storage, { size: MIB, lazyRefcounts: true });
    const image = openImage(storage);
    image.write(0, patternBytes(200_000));
    image.flush();
    await store(storage.toBytes(), IMAGE);
    const stored = new MemoryStorage(folder.content('disk.qcow2').slice());
    expect(runToEnd(checkImage(stored))).toMatchObject({ corruptions: 0, leaks: 0 });
    expectSameBytes(readWhole(openImage(stored)).subarray(0, 200_000), patternBytes(200_000));
  });
});

describe('the format of what arrives', () => {
  const known = async (bytes: Uint8Array, total: number | null = bytes.length, pieceBytes = 3) => {
    const { format, source } = await recognized({ stream: streamOf(bytes, pieceBytes), total });
    expectSameBytes(new Uint8Array(await new Response(source.stream).arrayBuffer()), bytes);
    return format;
  };

  it('is told by the first bytes, of which nothing is lost', async () => {
    expect(await known(imageBytes({ size: MIB, clusterSize: 65536 }), null, 100_000)).toBe('qcow2');
    expect(await known(Uint8Array.of(0x51, 0x46, 0x49, 0xfb))).toBe('qcow2');
    expect(await known(patternBytes(1024))).toBe('raw');
    expect(await known(patternBytes(1000), null)).toBe('raw');
  });

  it.each([
    ['nothing at all', new Uint8Array(0), 'NOT_QCOW2'],
    ['no whole sectors', patternBytes(1000), 'NOT_QCOW2'],
    ['gzip', Uint8Array.of(0x1f, 0x8b, 8, ...new Uint8Array(509)), 'UNSUPPORTED'],
    ['a VMDK', new TextEncoder().encode(`KDMV${'x'.repeat(508)}`), 'UNSUPPORTED'],
    ['a page that says "not found"', new TextEncoder().encode(`<!doctype html>${' '.repeat(497)}`), 'UNSUPPORTED'],
  ])('is none for %s', async (_, bytes, code) => {
    const stream = streamOf(bytes);
    await expect(recognized({ stream, total: bytes.length })).rejects.toMatchObject({ code });
  });

  it('is an IO error where the stream breaks before it is known', async () => {
    const stream = new ReadableStream<Uint8Array>({ pull: (controller) => controller.error(new Error('lost')) });
    await expect(recognized({ stream, total: null })).rejects.toMatchObject({ code: 'IO' });
  });
});

describe('a response as a source', () => {
  const { signal } = new AbortController();
  const open = (response: Response) => openImageSource(response, { total: null, signal });

  it('has the length that its server says, unless what arrives has another', async () => {
    expect((await open(new Response('12345', { headers: { 'content-length': '5' } }))).total).toBe(5);
    const packed = { 'content-length': '5', 'content-encoding': 'gzip' };
    expect((await open(new Response('123456789', { headers: packed }))).total).toBeNull();
  });

  it('is refused with what the server says, or where it has no body', async () => {
    await expect(open(new Response('no', { status: 404 }))).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(open(new Response('no', { status: 500 }))).rejects.toMatchObject({ code: 'NETWORK' });
    await expect(open(new Response(null, { status: 204 }))).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
  });
});
