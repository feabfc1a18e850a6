/** The demo's web server, through real requests to it. The file asked for is one that is always in demo/guest/. */
import { readFileSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { serve } from '../../demo/serve.mjs';

const FILE = readFileSync(new URL('../../demo/guest/applets.txt', import.meta.url));
const PATH = 'guest/applets.txt';

let server: Awaited<ReturnType<typeof serve>>;
beforeAll(async () => {
  server = await serve({ port: 0 });
});
afterAll(() => server.close());

async function get(path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Response> {
  return fetch(server.url + path, { headers, method });
}

/** Sends the path as it is: fetch would take `..` out of it. */
function statusOfRawPath(path: string): Promise<number | undefined> {
  const { port } = new URL(server.url);
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    sent.on('error', reject).end();
  });
}

describe('the demo server', () => {
  test('listens on this machine only, on a free port when asked for port 0', () => {
    expect(server.url).toMatch(/^http:\/\/127\.0\.0\.1:[1-9]\d*\/$/);
  });

  test('sends a file whole, with its type, to be revalidated each time', async () => {
    const response = await get(PATH);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('text/plain; charset=utf-8');
    expect(response.headers.get('cache-control')).toBe('no-cache');
    expect(Buffer.from(await response.arrayBuffer()).equals(FILE)).toBe(true);
  });

  test.each([
    ['bytes=0-0', 0, 1],
    ['bytes=5-9', 5, 10],
    ['bytes=100-', 100, FILE.length],
    ['bytes=-7', FILE.length - 7, FILE.length],
    ['bytes=10-999999999', 10, FILE.length],
    ['bytes=-999999999', 0, FILE.length],
  ])('answers the range %s', async (range, start, end) => {
    const response = await get(PATH, { Range: range });
    expect(response.status).toBe(206);
    expect(response.headers.get('content-range')).toBe(`bytes ${start}-${end - 1}/${FILE.length}`);
    expect(Buffer.from(await response.arrayBuffer()).equals(FILE.subarray(start, end))).toBe(true);
  });

  test.each([`bytes=${FILE.length}-`, 'bytes=-0'])('says that the range %s is outside of the file', async (range) => {
    const response = await get(PATH, { Range: range });
    expect(response.status).toBe(416);
    expect(response.headers.get('content-range')).toBe(`bytes */${FILE.length}`);
  });

  test.each(['bytes=9-5', 'bytes=-', 'bytes=0-1,4-5', 'lines=0-1'])(
    'sends the whole file for "%s", which is no single byte range',
    async (range) => {
      const response = await get(PATH, { Range: range });
      expect(response.status).toBe(200);
      expect((await response.arrayBuffer()).byteLength).toBe(FILE.length);
    },
  );

  test('sends nothing again that the browser has, and the whole file when a range is of an older one', async () => {
    const etag = (await get(PATH)).headers.get('etag') ?? '';
    expect((await get(PATH, { 'If-None-Match': etag })).status).toBe(304);
    expect((await get(PATH, { Range: 'bytes=0-0', 'If-Range': etag })).status).toBe(206);
    expect((await get(PATH, { Range: 'bytes=0-0', 'If-Range': '"older"' })).status).toBe(200);
  });

  test('answers HEAD with the length and no contents', async () => {
    const response = await get(PATH, {}, 'HEAD');
    expect(response.headers.get('content-length')).toBe(String(FILE.length));
    expect(await response.text()).toBe('');
  });

  test('tells of the whole file where HEAD asks for a range, which is of a GET', async () => {
    const response = await get(PATH, { Range: 'bytes=0-0' }, 'HEAD');
    expect(response.status).toBe(200);
    expect(response.headers.get('content-length')).toBe(String(FILE.length));
  });

  test.each([
    ['guest/applets.txt', 'text/plain; charset=utf-8'],
    ['guest/make-guest.mjs', 'text/javascript; charset=utf-8'],
    ['guest/trimmed-kernel.config', 'application/octet-stream'],
  ])('has for %s the type %s', async (path, type) => {
    expect((await get(path)).headers.get('content-type')).toBe(type);
  });

  test('gives a file another strong ETag when another one of the same size and time is put in its place', async () => {
    const name = `serve-test-${process.pid}`;
    const file = new URL(`../../demo/guest/${name}`, import.meta.url);
    const next = new URL(`../../demo/guest/${name}-next`, import.meta.url);
    const moment = new Date('2024-01-01');
    const etag = async (): Promise<string> => (await get(`guest/${name}`)).headers.get('etag') ?? '';
    try {
      for (const [path, text] of [
        [file, 'one'],
        [next, 'two'],
      ] as const) {
        writeFileSync(path, text);
        utimesSync(path, moment, moment);
      }
      const first = await etag();
      renameSync(next, file);
      expect(first).toMatch(/^"[^"]+"$/);
      expect(await etag()).not.toBe(first);
    } finally {
      for (const path of [file, next]) rmSync(path, { force: true });
    }
  });

  test('refuses other methods', async () => {
    expect((await get(PATH, {}, 'POST')).status).toBe(405);
  });

  test.each([
    '/guest/missing.txt',
    '/guest/',
    '/guest/rootfs',
    '/guest/.cache/apt/sources.list',
    '/guest/../../package.json',
    '/guest/..%2f..%2fpackage.json',
    '/guest/%2e%2e/%2e%2e/package.json',
    '/..%5c..%5cpackage.json',
    '/%00',
    '/%ff',
  ])('has nothing at %s', async (path) => {
    expect(await statusOfRawPath(path)).toBe(404);
  });

  test('says plainly that a port is taken, and how to choose another', async () => {
    const port = Number(new URL(server.url).port);
    await expect(serve({ port })).rejects.toThrow(
      `Port ${port} is in use by another program. Choose another one: PORT=${port + 1} npm start`,
    );
  });
});
