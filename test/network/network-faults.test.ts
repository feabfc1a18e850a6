/**
 * Servers that change a base, or do not do what they should. They prove that nothing of another version is ever taken, and that whatever goes
 * wrong is tried again if that can help, and named otherwise.
 */
import { describe, expect, it } from 'vitest';
import { patternBytes } from '../storage/conformance.js';
import { expectSameBytes } from '../support/model-disk.js';
import type { Fault } from './fake-server.js';
import { MemoryBases, QUICK, hostOn } from './memory-bases.js';
import {
  ADDRESS,
  CHUNK,
  SIZE,
  URL_OF_BASE,
  closeBasesAfterEach,
  errorOf,
  open,
  readAt,
  served,
} from './opened-base.js';

closeBasesAfterEach();

describe('a base that changed', () => {
  it('is refused by a disk that stands on the old one, by name', async () => {
    const error = await errorOf(open(hostOn(served()), { pin: 'etag:"v0"' }));
    expect(error.code).toBe('BASE_CHANGED');
    expect(error.message).toContain('etag:"v0"');
    expect(error.message).toContain('etag:"v1"');
  });

  it.each([
    { title: 'and its server heeds If-Range', heeds: true },
    { title: 'and its server does not', heeds: false },
  ])('is found out in the middle, $title; nothing of it is taken', async ({ heeds }) => {
    const server = served();
    const bases = new MemoryBases();
    const base = await open(hostOn(server, bases));
    await readAt(base, CHUNK, CHUNK);
    server.put(URL_OF_BASE, patternBytes(SIZE, 99), '"v2"');
    if (!heeds) {
      const { fetch } = server;
      Object.assign(server, {
        fetch: (url: string, init: RequestInit) => {
          const headers = new Headers(init.headers);
          headers.delete('if-range');
          return fetch(url, { ...init, headers });
        },
      });
    }
    const error = await errorOf(readAt(base, 9 * CHUNK, 10));
    expect(error.code).toBe('BASE_CHANGED');
    expect(error.message).toContain('"v2"');
    expectSameBytes(await readAt(base, CHUNK, CHUNK), patternBytes(SIZE).subarray(CHUNK, 2 * CHUNK), 'the old part');
    expect(base.status().keptBytes).toBe(2 * CHUNK);
  });

  it('is kept beside the old one, each in a file of its own', async () => {
    const [server, bases] = [served(), new MemoryBases()];
    const old = await open(hostOn(server, bases));
    await old.makeAvailableOffline();
    server.put(URL_OF_BASE, patternBytes(SIZE, 99), '"v2"');
    const fresh = await open(hostOn(server, bases));
    expectSameBytes(await readAt(fresh, 0, SIZE), patternBytes(SIZE, 99), 'the new one');
    const again = await open(hostOn(server, bases), { pin: 'etag:"v1"' });
    expectSameBytes(await readAt(again, 0, SIZE), patternBytes(SIZE), 'the old one');
    expect(bases.files.size).toBe(2);
  });

  it('is told by size and Last-Modified where there is no strong ETag', async () => {
    const server = served(patternBytes(SIZE), 'W/"weak"');
    const base = await open(hostOn(server));
    expect(base.source.identity).toBe(`modified:${SIZE},Tue, 11 Nov 2025 10:00:00 GMT`);
    server.put(URL_OF_BASE, patternBytes(SIZE, 1), null).lastModified = 'Wed, 12 Nov 2025 10:00:00 GMT';
    expect((await errorOf(readAt(base, 9 * CHUNK, 10))).code).toBe('BASE_CHANGED');
  });

  it('is told by the digest of its author where the server says nothing', async () => {
    const server = served(patternBytes(SIZE), null);
    server.files.get(URL_OF_BASE)!.lastModified = null;
    expect((await errorOf(open(hostOn(server)))).message).toContain('give its "digest"');
    const digest = 'ab'.repeat(32);
    const base = await open(hostOn(server), {}, { ...ADDRESS, digest });
    expect(base.source.identity).toBe(`sha256:${digest}`);
    expect(
      (await errorOf(open(hostOn(server), { pin: `sha256:${'cd'.repeat(32)}` }, { ...ADDRESS, digest }))).code,
    ).toBe('BASE_CHANGED');
  });
});

describe('a server that does not do what it should', () => {
  it.each<{ title: string; fault: Fault; code: string; says: string; attempts: number }>([
    {
      title: 'is not there',
      fault: { kind: 'unreachable' },
      code: 'NETWORK',
      says: 'could not be reached',
      attempts: 5,
    },
    { title: 'never answers', fault: { kind: 'silent' }, code: 'NETWORK', says: 'nothing came', attempts: 5 },
    { title: 'stops', fault: { kind: 'stalled', after: 100 }, code: 'NETWORK', says: 'nothing came', attempts: 5 },
    {
      title: 'is overloaded',
      fault: { kind: 'status', status: 503 },
      code: 'NETWORK',
      says: 'status 503',
      attempts: 5,
    },
    {
      title: 'cuts its answers short',
      fault: { kind: 'truncated', after: 100 },
      code: 'NETWORK',
      says: 'cut short: 100 of 65536',
      attempts: 5,
    },
    { title: 'breaks off', fault: { kind: 'broken', after: 100 }, code: 'NETWORK', says: 'broke off', attempts: 5 },
    {
      title: 'sends more than was asked for',
      fault: { kind: 'wrong length' },
      code: 'NETWORK',
      says: 'the server sends 65539',
      attempts: 5,
    },
    {
      title: 'sends another range',
      fault: { kind: 'wrong range' },
      code: 'NETWORK',
      says: 'were asked for',
      attempts: 5,
    },
    {
      title: 'does not say which range',
      fault: { kind: 'no content-range' },
      code: 'NETWORK',
      says: 'no Content-Range',
      attempts: 5,
    },
    { title: 'compresses', fault: { kind: 'compressed' }, code: 'UNSUPPORTED', says: 'compresses', attempts: 1 },
    { title: 'has no such file', fault: { kind: 'status', status: 404 }, code: 'NOT_FOUND', says: '404', attempts: 1 },
    { title: 'forbids it', fault: { kind: 'status', status: 403 }, code: 'NETWORK', says: '403', attempts: 1 },
    {
      title: 'has a shorter file',
      fault: { kind: 'status', status: 416 },
      code: 'BASE_CHANGED',
      says: 'another file',
      attempts: 1,
    },
  ])('and $title is named, after $attempts attempts', async ({ fault, code, says, attempts }) => {
    const server = served();
    const stalls = fault?.kind === 'silent' || fault?.kind === 'stalled';
    const patience = stalls ? { ...QUICK, stallMilliseconds: 100 } : QUICK;
    const base = await open({ ...hostOn(server), patience });
    server.requests.length = 0;
    server.fault = () => fault;
    const error = await errorOf(readAt(base, 6 * CHUNK, CHUNK));
    expect({ code: error.code, requests: server.requests.length }).toEqual({ code, requests: attempts });
    expect(error.message).toContain(says);
    expect(error.message).toContain(URL_OF_BASE);
    // The next one who asks is not told of it.
    server.fault = () => null;
    expectSameBytes(await readAt(base, 6 * CHUNK, 9), patternBytes(SIZE).subarray(6 * CHUNK, 6 * CHUNK + 9), 'later');
  });

  it('and knows no ranges is refused with the way out, before anything is downloaded', async () => {
    const server = served(patternBytes(SIZE));
    server.knowsRanges = false;
    const error = await errorOf(open(hostOn(server)));
    expect(error.code).toBe('UNSUPPORTED');
    expect(error.message).toContain('split image');
    expect(server.sentBytes).toBeLessThan(CHUNK);
  });

  it('and gets somewhere each time is not given up', async () => {
    const server = served();
    const base = await open(hostOn(server));
    server.fault = () => ({ kind: 'truncated', after: CHUNK + 10 });
    expectSameBytes(await readAt(base, 0, SIZE), patternBytes(SIZE), 'piece by piece');
  });

  it('and claims a size that no image has is not believed', async () => {
    const server = served();
    const { fetch } = server;
    const lie = async (url: string, init?: RequestInit): Promise<Response> => {
      const { status, headers, body } = await fetch(url, init);
      headers.set('content-range', `bytes 0-${CHUNK - 1}/9007199254740991`);
      return new Response(body, { status, headers });
    };
    const error = await errorOf(open({ fetch: lie, files: null, patience: QUICK }));
    expect(error.code).toBe('LIMIT');
  });
});
