/**
 * Disks over base images on servers, from the page's side of the worker. They prove: an overlay stands on the version it was made over and opens
 * without a network; only what was allowed is fetched; a read that waits for a server can be given up; and fetching for later holds nothing back.
 */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createImage, MemoryStorage, openImage } from '../../src/index.js';
import { CacheFile } from '../../src/network/cache-file.js';
import { OpfsDisk } from '../../src/worker/opfs-disk.js';
import { FakeServer } from '../network/fake-server.js';
import { MemoryBases, QUICK, hostOn } from '../network/memory-bases.js';
import { patternBytes } from '../storage/conformance.js';
import { expectSameBytes } from '../support/model-disk.js';
import { closeConnections, connect, openRequest } from './connect.js';
import { MemoryFolder } from './memory-files.js';

const URL_OF_BASE = 'https://example.test/base.qcow2';
const SIZE = 3 * 2 ** 20;
const CHUNK = 64 * 1024;
const OVERLAY = {
  create: { backing: { name: URL_OF_BASE, format: 'qcow2' } },
  bases: [{ url: URL_OF_BASE, chunkBytes: CHUNK }],
} as const;

afterEach(closeConnections);

interface Site {
  readonly server: FakeServer;
  readonly bases: MemoryBases;
  readonly folder: MemoryFolder;
}

function site(content = patternBytes(SIZE)): Site {
  const image = new MemoryStorage();
  createImage(image, { size: content.length });
  const writer = openImage(image);
  writer.write(0, content);
  writer.flush();
  const server = new FakeServer();
  server.put(URL_OF_BASE, image.toBytes());
  return { server, bases: new MemoryBases(), folder: new MemoryFolder() };
}

async function open(
  { server, bases, folder }: Site,
  options: Parameters<typeof openRequest>[0] = OVERLAY,
): Promise<OpfsDisk> {
  const { client } = connect(folder.openDirectory, hostOn(server, bases));
  return new OpfsDisk(client, await client.call(openRequest(options)));
}

function recordedName({ folder }: Site): string | undefined {
  const storage = new MemoryStorage(folder.content('disk.qcow2').slice());
  return openImage(storage, { readOnly: true, backing: null }).header.backingFile?.name;
}

describe('an overlay over a base image on a server', () => {
  it('has the size of the base, reads it, and writes to itself alone', async () => {
    const visit = site();
    const disk = await open(visit);
    expect(disk.info.size).toBe(SIZE);
    await disk.write(700_000, new Uint8Array(1000).fill(0x5a));
    const expected = patternBytes(SIZE).fill(0x5a, 700_000, 701_000);
    expectSameBytes(await disk.read(0, SIZE), expected, 'the disk');
    await disk.close();
  });

  it('pins the version that it was made over, and is refused over another', async () => {
    const visit = site();
    await (await open(visit)).close();
    expect(recordedName(visit)).toBe(`${URL_OF_BASE}#identity=etag%3A%22v1%22`);
    visit.server.put(URL_OF_BASE, visit.server.files.get(URL_OF_BASE)!.bytes, '"v2"');
    visit.bases.files.clear();
    await expect(open(visit)).rejects.toMatchObject({ code: 'BASE_CHANGED' });
    expect(visit.bases.held).toBe(0);
    expect(visit.folder.claims.size).toBe(0);
  });

  it('asks its server for nothing on the second visit, nor when the server is gone', async () => {
    const visit = site();
    const first = await open(visit);
    await first.read(0, SIZE);
    await first.close();
    const before = visit.server.requests.length;
    visit.server.fault = () => ({ kind: 'unreachable' });
    const second = await open(visit);
    expectSameBytes(await second.read(0, SIZE), patternBytes(SIZE), 'the second visit');
    expect(visit.server.requests).toHaveLength(before);
    await second.close();
    expect(visit.bases.held).toBe(0);
  });

  it('is not made where the server is not there, and the error says so', async () => {
    const visit = site();
    visit.server.fault = () => ({ kind: 'unreachable' });
    await expect(open(visit)).rejects.toMatchObject({ code: 'NETWORK' });
    expect([...visit.folder.files.keys()]).toEqual([]);
  });

  it.each([
    { title: 'has no such file', status: 404, code: 'NOT_FOUND' },
    { title: 'knows no ranges', status: 200, code: 'UNSUPPORTED' },
  ])('is told by its own name what is wrong with a server that $title', async ({ status, code }) => {
    const visit = site();
    await (await open(visit)).close();
    visit.bases.files.clear();
    if (status === 404) visit.server.files.clear();
    else visit.server.knowsRanges = false;
    await expect(open(visit)).rejects.toMatchObject({ code });
    expect(visit.folder.files.has('disk.qcow2')).toBe(true);
  });

  it('opens nothing that was not allowed', async () => {
    const visit = site();
    await (await open(visit)).close();
    const before = visit.server.requests.length;
    await expect(open(visit, {})).rejects.toMatchObject({ code: 'BACKING' });
    const other = { bases: [{ url: 'https://example.test/other.qcow2' }] };
    await expect(open(visit, other)).rejects.toThrow('not allowed');
    expect(visit.server.requests).toHaveLength(before);
  });

  it('goes by a name where one is given, so that the image may move', async () => {
    const visit = site();
    const named = {
      create: { backing: { name: 'linux', format: 'qcow2' } },
      bases: [{ ...OVERLAY.bases[0], name: 'linux' }],
    } as const;
    await (await open(visit, named)).close();
    expect(recordedName(visit)).toBe('linux#identity=etag%3A%22v1%22');
    const moved = 'https://cdn.test/images/base.qcow2';
    visit.server.put(moved, visit.server.files.get(URL_OF_BASE)!.bytes);
    const disk = await open(visit, { bases: [{ url: moved, name: 'linux', chunkBytes: CHUNK }] });
    expectSameBytes(await disk.read(0, 5000), patternBytes(SIZE).subarray(0, 5000), 'from the new place');
    await disk.close();
  });

  it('stands on a raw base as well', async () => {
    const visit = site();
    visit.server.put('https://example.test/raw.img', patternBytes(SIZE - 100));
    const raw = 'https://example.test/raw.img';
    const disk = await open(visit, { create: { backing: { name: raw, format: 'raw' } }, bases: [{ url: raw }] });
    const expected = new Uint8Array(SIZE - 512 + 412);
    expected.set(patternBytes(SIZE - 100));
    expect(disk.info.size).toBe(Math.ceil((SIZE - 100) / 512) * 512);
    expectSameBytes(await disk.read(0, SIZE - 100), expected.subarray(0, SIZE - 100), 'the raw base');
    await disk.close();
  });

  it('is exported whole', async () => {
    const visit = site();
    const { client } = connect(visit.folder.openDirectory, hostOn(visit.server, visit.bases));
    await client.call(openRequest(OVERLAY));
    await client.call({ kind: 'write', offset: 5, bytes: Uint8Array.of(1, 2, 3) });
    const { blob } = await client.call({ kind: 'export', content: { of: 'disk', snapshots: true } });
    await client.call({ kind: 'close' });
    const copy = openImage(new MemoryStorage(new Uint8Array(await blob.arrayBuffer())), { readOnly: true });
    const target = new Uint8Array(SIZE);
    copy.read(0, target);
    const expected = patternBytes(SIZE);
    expected.set([1, 2, 3], 5);
    expectSameBytes(target, expected, 'the export');
  });
});

describe('a disk that is thrown away', () => {
  it('is written and read, and leaves no file', async () => {
    const visit = site();
    const disk = await open(visit, { ...OVERLAY, throwAway: true });
    await disk.write(100, new Uint8Array(70_000).fill(3));
    await disk.flush();
    expectSameBytes(await disk.read(0, SIZE), patternBytes(SIZE).fill(3, 100, 70_100), 'the disk');
    await disk.close();
    expect([...visit.folder.files.keys()]).toEqual([]);
    expect(visit.folder.claims.size).toBe(0);
  });

  it('is there beside the disk of its name, which another tab has open', async () => {
    const visit = site();
    const kept = await open(visit);
    const thrown = await open(visit, { ...OVERLAY, throwAway: true });
    await thrown.write(0, Uint8Array.of(9));
    expect((await kept.read(0, 1))[0]).toBe(patternBytes(1)[0]);
    await thrown.close();
    await kept.close();
  });

  it('must be told what it is', async () => {
    await expect(open(site(), { throwAway: true })).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
  });
});

describe('a read that waits for a server', () => {
  it('is given up by its signal, and the next one is answered', async () => {
    const visit = site();
    const disk = await open(visit);
    visit.server.fault = () => ({ kind: 'silent' });
    visit.server.requests.length = 0;
    const reset = new AbortController();
    const waiting = disk.read(2 * 2 ** 20, 512, { signal: reset.signal });
    const failed = expect(waiting).rejects.toMatchObject({ code: 'ABORTED' });
    await vi.waitFor(() => expect(visit.server.requests).not.toHaveLength(0));
    reset.abort();
    await failed;
    visit.server.fault = () => null;
    expectSameBytes(
      await disk.read(2 * 2 ** 20, 512),
      patternBytes(SIZE).subarray(2 * 2 ** 20, 2 * 2 ** 20 + 512),
      'after',
    );
    await disk.close();
  });

  it('fails with what the server failed with, and the disk goes on', async () => {
    const visit = site();
    const disk = await open(visit);
    visit.server.fault = () => ({ kind: 'status', status: 404 });
    await expect(disk.read(2 * 2 ** 20, 512)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await disk.write(2 * 2 ** 20, new Uint8Array(65_536).fill(1));
    expect((await disk.read(2 * 2 ** 20, 1))[0]).toBe(1);
    await disk.flush();
    await disk.close();
  });
});

describe('a write that needs what a server has', () => {
  /** A part of a cluster: the rest of it comes from the base. */
  const part = (): Uint8Array<ArrayBuffer> => new Uint8Array(512).fill(0x77);
  const AT = 2 * 2 ** 20 + 1024;

  it.each(['silent', 'dripping'] as const)(
    'fails as a read does where it is %s, and has changed nothing',
    async (kind) => {
      const visit = site();
      const patience = {
        attempts: 2,
        firstPauseMilliseconds: 1,
        stallMilliseconds: 100,
        slowestBytesPerSecond: 300_000,
      };
      const { client } = connect(visit.folder.openDirectory, { ...hostOn(visit.server, visit.bases), patience });
      const disk = new OpfsDisk(client, await client.call(openRequest(OVERLAY)));
      visit.server.fault = () => ({ kind });
      await expect(disk.write(AT, part())).rejects.toMatchObject({ code: 'NETWORK' });
      visit.server.fault = () => null;
      expectSameBytes(await disk.read(AT, 512), patternBytes(SIZE).subarray(AT, AT + 512), 'after the failure');
      await disk.write(AT, part());
      expectSameBytes(await disk.read(AT, 512), part(), 'the second attempt');
      await disk.close();
    },
  );

  it.each(['write', 'writeZeroes'] as const)(
    'is given up by its signal (%s), and what comes behind it is carried out',
    async (kind) => {
      const visit = site();
      const disk = await open(visit);
      visit.server.fault = () => ({ kind: 'silent' });
      const reset = new AbortController();
      const { signal } = reset;
      const waiting = kind === 'write' ? disk.write(AT, part(), { signal }) : disk.writeZeroes(AT, 512, { signal });
      const failed = expect(waiting).rejects.toMatchObject({ code: 'ABORTED' });
      const behind = disk.write(0, new Uint8Array(65_536).fill(1));
      await expect.poll(() => visit.server.requests.length).toBeGreaterThan(1);
      reset.abort();
      await failed;
      await behind;
      visit.server.fault = () => null;
      expectSameBytes(await disk.read(AT, 512), patternBytes(SIZE).subarray(AT, AT + 512), 'what it did not change');
      await disk.close();
    },
  );
});

describe('fetching for later', () => {
  it('is told of, paused, gone on with, while the disk is used', async () => {
    const visit = site();
    const disk = await open(visit);
    const pause = new AbortController();
    visit.server.fault = () => ({ kind: 'silent' });
    const first = disk.makeAvailableOffline({ signal: pause.signal });
    const ended = expect(first).rejects.toMatchObject({ code: 'ABORTED' });
    // A whole cluster needs nothing of the base.
    await disk.write(65_536, new Uint8Array(65_536).fill(4));
    expect((await disk.read(65_536, 1))[0]).toBe(4);
    pause.abort();
    await ended;
    visit.server.fault = () => null;
    const seen: string[] = [];
    await disk.makeAvailableOffline({ onProgress: ({ done, total, what }) => seen.push(`${what} ${done === total}`) });
    expect(seen).toContain('fetching the base image true');
    expect(seen.at(-1)).toBe('verifying the base image true');
    const [base] = await disk.bases();
    expect(base).toMatchObject({ name: URL_OF_BASE, identity: 'etag:"v1"', notKept: null });
    expect(base!.keptBytes).toBe(base!.size);
    await disk.close();
  });

  it('ends at once when the disk is closed, which waits for what has come to be kept', async () => {
    const visit = site();
    const disk = await open(visit);
    let [hasCome, keep] = [false, (): void => undefined];
    const gate = new Promise<void>((resolve) => (keep = resolve));
    const take = visit.bases.locks.take.bind(visit.bases.locks);
    vi.spyOn(visit.bases.locks, 'take').mockImplementation(async (name, signal) => {
      if (name.endsWith('/append')) {
        hasCome = true;
        await gate;
      }
      return take(name, signal);
    });
    const fetching = disk.makeAvailableOffline();
    const ended = expect(fetching).rejects.toMatchObject({ code: 'CLOSED' });
    await vi.waitFor(() => expect(hasCome).toBe(true));
    const closed = disk.close();
    await ended;
    keep();
    await closed;
    const { client } = connect(visit.folder.openDirectory, hostOn(visit.server, visit.bases));
    const [base] = await client.call({ kind: 'listBases' });
    expect(base!.presentBytes).toBeGreaterThan(CHUNK);
    expect(base!.presentBytes).toBeLessThan(SIZE);
  });

  it('follows a boot profile, of an earlier visit or from the server', async () => {
    const visit = site();
    const recorder = await open(visit);
    await recorder.read(2 ** 20, 100_000);
    const profile = await recorder.bootProfile();
    expect(profile.touched.length).toBeGreaterThan(1);
    await recorder.close();
    for (const given of [profile, 'https://example.test/base.profile.json']) {
      const next = site();
      const text = new TextEncoder().encode(JSON.stringify(profile)) as Uint8Array<ArrayBuffer>;
      next.server.put('https://example.test/base.profile.json', text);
      const disk = await open(next, { ...OVERLAY, bases: [{ ...OVERLAY.bases[0], profile: given }] });
      const touched = profile.touched.reduce((sum, [, length]) => sum + length, 0);
      await expect.poll(async () => (await disk.bases())[0]!.keptBytes).toBeGreaterThanOrEqual(touched);
      const before = next.server.requests.length;
      await disk.read(2 ** 20, 100_000);
      expect(next.server.requests).toHaveLength(before);
      await disk.close();
    }
  });

  it('asks for the profile no more once all that it names is kept', async () => {
    const visit = site();
    const recorder = await open(visit);
    await recorder.read(2 ** 20, 100_000);
    const profile = await recorder.bootProfile();
    await recorder.close();
    const next = site();
    const url = 'https://example.test/base.profile.json';
    next.server.put(url, new TextEncoder().encode(JSON.stringify(profile)) as Uint8Array<ArrayBuffer>);
    const given = { ...OVERLAY, bases: [{ ...OVERLAY.bases[0], profile: url }] };
    const first = await open(next, given);
    const [name] = [...next.bases.files.keys()];
    await expect.poll(() => CacheFile.open(next.bases.files.get(name!)!)!.notes.hasProfile(url)).toBe(true);
    await first.close();
    next.server.requests.length = 0;
    const second = await open(next, given);
    await second.read(2 ** 20, 100_000);
    await second.close();
    expect(next.server.requests).toEqual([]);
    const other = await open(next, { bases: [{ ...OVERLAY.bases[0], profile: `${url}?2` }] });
    await expect.poll(() => next.server.requests.length).toBe(1);
    await other.close();
  });

  it('asks for a profile again where the last visit ended before it was through', async () => {
    const visit = site();
    const url = 'https://example.test/base.profile.json';
    const { bytes } = visit.server.files.get(URL_OF_BASE)!;
    const touched = [[0, bytes.length]];
    const profile = { format: 'qcow2-wasm boot profile', version: 1, size: bytes.length, touched };
    visit.server.put(url, new TextEncoder().encode(JSON.stringify(profile)) as Uint8Array<ArrayBuffer>);
    const asked = (): number => visit.server.requests.filter((request) => request.url === url).length;
    const given = { ...OVERLAY, bases: [{ ...OVERLAY.bases[0], profile: url }] };
    // What opening needs lies before.
    visit.server.fault = ({ range }) => (Number(/\d+/.exec(range ?? '0')![0]) >= 2 ** 20 ? { kind: 'silent' } : null);
    const first = await open(visit, given);
    await expect.poll(asked).toBe(1);
    await first.close();
    visit.server.fault = () => null;
    const second = await open(visit, given);
    await expect.poll(async () => (await second.bases())[0]!.keptBytes).toBe(bytes.length);
    expect(asked()).toBe(2);
    await second.close();
    const third = await open(visit, given);
    expectSameBytes(await third.read(0, SIZE), patternBytes(SIZE), 'the third visit');
    expect(asked()).toBe(2);
    await third.close();
  });

  it('has no profile of a base that is none of its own', async () => {
    const visit = site();
    const disk = await open(visit);
    await expect(disk.bootProfile('other')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await disk.close();
  });
});

describe('what is kept of base images', () => {
  it('is told to the page, and deleted for it when no disk has it open', async () => {
    const visit = site();
    const disk = await open(visit);
    const { client } = connect(visit.folder.openDirectory, hostOn(visit.server, visit.bases));
    const [base, ...others] = await client.call({ kind: 'listBases' });
    expect(others).toEqual([]);
    expect(base).toMatchObject({ url: URL_OF_BASE, identity: 'etag:"v1"', inUse: true });
    const removal = { kind: 'removeBase', url: base!.url, identity: base!.identity } as const;
    await expect(client.call(removal)).rejects.toMatchObject({ code: 'IN_USE' });
    await disk.close();
    await client.call(removal);
    expect(await client.call({ kind: 'listBases' })).toEqual([]);
  });
});

describe('an export that waits for a server', () => {
  it('holds nothing back that the disk can do without it, and fails alone', async () => {
    const visit = site();
    const patience = { ...QUICK, attempts: 2, stallMilliseconds: 200 };
    const { client } = connect(visit.folder.openDirectory, { ...hostOn(visit.server, visit.bases), patience });
    const disk = new OpfsDisk(client, await client.call(openRequest(OVERLAY)));
    visit.server.fault = () => ({ kind: 'silent' });
    const order: string[] = [];
    const exported = client.call({ kind: 'export', content: { of: 'disk', snapshots: false } });
    const failed = exported.catch((error: unknown) => {
      order.push('export');
      return error;
    });
    await disk.write(0, new Uint8Array(65_536).fill(0x5a));
    order.push('write');
    expectSameBytes(await disk.read(0, 65_536), new Uint8Array(65_536).fill(0x5a), 'what was written');
    order.push('read');
    expect(await failed).toMatchObject({ code: 'NETWORK' });
    expect(order).toEqual(['write', 'read', 'export']);
    visit.server.fault = () => null;
    const { blob } = await client.call({ kind: 'export', content: { of: 'disk', snapshots: false } });
    const copy = openImage(new MemoryStorage(new Uint8Array(await blob.arrayBuffer())), { readOnly: true });
    const bytes = new Uint8Array(SIZE);
    copy.read(0, bytes);
    expectSameBytes(bytes, patternBytes(SIZE).fill(0x5a, 0, 65_536), 'the export');
    expect(await disk.snapshots.list()).toEqual([]);
  });
});
