/** One request: what is said of a server that gives no answer, by why there is none; and names and headers of versions. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  differenceFrom,
  identityOf,
  parsePinnedName,
  pinnedName,
  validatorOf,
} from '../../src/network/base-identity.js';
import { FetchFailure } from '../../src/network/fetch-failure.js';
import { sendRequest, type Fetch } from '../../src/network/http.js';
import { ChunkGeometry, runsOf } from '../../src/network/chunk-geometry.js';
import { ReadAhead } from '../../src/network/read-ahead.js';
import { checkProfile } from '../../src/network/boot-profile.js';
import { createImage, MemoryStorage, openChain, openHttpStorage, openImage, settle } from '../../src/index.js';
import { FakeServer } from './fake-server.js';

const BASE = 'https://other.test/base.img';

afterEach(() => vi.unstubAllGlobals());

async function failureOf(fetch: Fetch, isReadable = false): Promise<FetchFailure> {
  const { signal } = new AbortController();
  const patience = { stallMilliseconds: 50, slowestBytesPerSecond: 1000 };
  const error = await sendRequest(fetch, { url: BASE, signal, bytes: 100, patience, isReadable }).then(
    () => null,
    (reason: unknown) => reason,
  );
  if (error instanceof FetchFailure) return error;
  throw new Error(`expected a FetchFailure, got ${String(error)}`);
}

const refuses: Fetch = () => Promise.reject(new TypeError('Failed to fetch'));

describe('a request without an answer', () => {
  it('to another origin that answers blindly is one that CORS forbids, and is not tried again', async () => {
    vi.stubGlobal('origin', 'https://page.test');
    const failure = await failureOf((url, init) =>
      init?.mode === 'no-cors' ? Promise.resolve(new Response(null)) : refuses(url, init),
    );
    expect(failure.isPassing).toBe(false);
    expect(failure.message).toContain('Access-Control-Allow-Origin: https://page.test');
  });

  it('to another origin that was read before is a line that broke, and is tried again', async () => {
    vi.stubGlobal('origin', 'https://page.test');
    const failure = await failureOf(
      (url, init) => (init?.mode === 'no-cors' ? Promise.resolve(new Response(null)) : refuses(url, init)),
      true,
    );
    expect(failure.isPassing).toBe(true);
    expect(failure.message).toContain('could not be reached');
  });

  it('to another origin that does not answer at all is a server that is not there', async () => {
    vi.stubGlobal('origin', 'https://page.test');
    const failure = await failureOf(refuses);
    expect(failure.isPassing).toBe(true);
    expect(failure.message).toContain('could not be reached');
  });

  it('is the fault of a browser that is offline', async () => {
    vi.stubGlobal('navigator', { onLine: false });
    expect((await failureOf(refuses)).message).toContain('the browser is offline');
  });
});

describe('the version of a base', () => {
  it('is pinned in a name, and comes out of it', () => {
    const identity = 'etag:"a#b c"';
    const name = pinnedName(BASE, identity);
    expect(new URL(name).href.startsWith(`${BASE}#`)).toBe(true);
    expect(parsePinnedName(name)).toEqual({ name: BASE, identity });
    expect(parsePinnedName('base.qcow2')).toEqual({ name: 'base.qcow2', identity: null });
    expect(() => parsePinnedName(`${BASE}#identity=%zz`)).toThrow('ends in no identity');
  });

  it.each([
    [{ etag: '"5-6"', 'last-modified': 'Tue' }, 'etag:"5-6"', '"5-6"'],
    [{ etag: 'W/"5-6"', 'last-modified': 'Tue, 1' }, 'modified:77,Tue, 1', 'Tue, 1'],
    [{ etag: 'W/"5-6"' }, null, null],
    [{ etag: `"${'x'.repeat(400)}"`, 'last-modified': 'Tue' }, 'modified:77,Tue', 'Tue'],
  ])('of an answer with %o is %s', (headers, identity, validator) => {
    expect(identityOf(new Headers(headers as Record<string, string>), 77)).toBe(identity);
    if (identity !== null) expect(validatorOf(identity)).toBe(validator);
  });
});

describe('another version', () => {
  it.each([
    ['"v1"', null],
    ['W/"v1"', null],
    ['"v2"', 'etag:"v2"'],
    ['W/"v2"', 'etag:W/"v2"'],
    ['v1', 'etag:v1'],
  ])('than "v1" is told by its tag, strong or weak: %s', (etag, difference) => {
    expect(differenceFrom('etag:"v1"', new Headers({ etag }))).toBe(difference);
  });
});

describe('chunks', () => {
  const geometry = new ChunkGeometry(10 * 65536 + 1, 65536);

  it('are those that hold bytes of a range', () => {
    expect(geometry.count).toBe(11);
    expect(geometry.chunksOf(65535, 2)).toEqual({ first: 0, count: 2 });
    expect(geometry.chunksOf(10 * 65536, 500)).toEqual({ first: 10, count: 1 });
    expect(geometry.chunksOf(10 * 65536 + 1, 500)).toEqual({ first: 0, count: 0 });
    expect(geometry.length(10)).toBe(1);
  });

  it('are fetched in runs of neighbours, in the order given', () => {
    expect(runsOf([5, 6, 7, 1, 2, 9], 2)).toEqual([
      { first: 5, count: 2 },
      { first: 7, count: 1 },
      { first: 1, count: 2 },
      { first: 9, count: 1 },
    ]);
  });

  it.each([
    [0, 65536],
    [-1, 65536],
    [1.5, 65536],
    [2 ** 53, 65536],
    [100, 1000],
    [100, 32768],
    [100, 8 * 2 ** 20],
  ])('are refused for %d bytes in chunks of %d', (size, chunkBytes) => {
    expect(() => new ChunkGeometry(size, chunkBytes)).toThrow(/has|power of two/);
  });

  it('are fetched ahead of a run of reads, half as much as it has read, and not ahead of short ones', () => {
    const ahead = new ReadAhead(geometry);
    expect(ahead.after(0, 65_536).count).toBe(0);
    expect(ahead.after(65_536, 65_536)).toEqual({ first: 2, count: 1 });
    expect(ahead.after(65_536, 65_536)).toEqual({ first: 2, count: 1 });
    expect(ahead.after(131_072, 131_072)).toEqual({ first: 4, count: 2 });
    expect(ahead.after(262_144 + 1000, 40_000)).toEqual({ first: 5, count: 2 });
    expect(ahead.after(9 * 65_536, 10).count).toBe(0);
    expect(ahead.after(0, 3 * 65_536).count).toBe(0);
  });
});

describe('a boot profile', () => {
  const good = { format: 'qcow2-wasm boot profile', version: 1, size: 100, touched: [[0, 50]] };

  it('is taken as it is written', () => {
    expect(checkProfile(JSON.parse(JSON.stringify(good)), 'p.json')).toEqual(good);
  });

  it.each([
    ['no object', null],
    ['"format" and "version"', { ...good, version: 2 }],
    ['"size" must be', { ...good, size: '1' }],
    ['"touched"[0] is no', { ...good, touched: [[0, 101]] }],
    ['"touched"[0] is no', { ...good, touched: [[-5, 10]] }],
    ['"touched"[1] is no', { ...good, touched: [[0, 1], 'x'] }],
  ])('is refused where %s', (says, value) => {
    expect(() => checkProfile(value, 'p.json')).toThrow(says);
  });
});

describe('openHttpStorage', () => {
  it('is a storage that the engine opens an image from', async () => {
    const image = new MemoryStorage();
    createImage(image, { size: 3 * 2 ** 20 });
    const writer = openImage(image);
    writer.write(2 * 2 ** 20, new Uint8Array(500).fill(7));
    writer.flush();
    const server = new FakeServer();
    server.put(BASE, image.toBytes());
    const storage = await openHttpStorage({ url: BASE }, { fetch: server.fetch });
    const disk = await openChain(storage, { readOnly: true });
    const target = new Uint8Array(1);
    await settle(() => disk.read(2 * 2 ** 20 + 499, target));
    expect(target[0]).toBe(7);
    disk.close();
    expect(() => storage.base.read(0, target)).toThrow('closed');
  });
});
