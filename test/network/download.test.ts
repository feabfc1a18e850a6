import { describe, expect, it } from 'vitest';
import { openDownload } from '../../src/network/download.js';
import type { Fetch } from '../../src/network/http.js';
import { patternBytes } from '../storage/conformance.js';

const URL_OF_IT = 'https://site.test/disk.qcow2';
const { signal } = new AbortController();

function answering(response: () => Response): Fetch {
  return () => Promise.resolve(response());
}

async function bytesOf(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

describe('a download', () => {
  it('gives all bytes and says how many there are', async () => {
    const content = patternBytes(300_000);
    const headers = { 'content-length': String(content.length) };
    const fetch = answering(() => new Response(content, { headers }));
    const { stream, total } = await openDownload(URL_OF_IT, { signal, fetch });
    expect(total).toBe(content.length);
    expect(Buffer.compare(await bytesOf(stream), content)).toBe(0);
  });

  it('does not know the length of what is packed on its way', async () => {
    const headers = { 'content-length': '3', 'content-encoding': 'br' };
    const { stream, total } = await openDownload(URL_OF_IT, {
      signal,
      fetch: answering(() => new Response('longer than three', { headers })),
    });
    expect(total).toBeNull();
    expect((await bytesOf(stream)).length).toBe(17);
  });

  it('that ends early is a failure of the network, not a shorter file', async () => {
    const fetch = answering(() => new Response('123', { headers: { 'content-length': '4' } }));
    const { stream } = await openDownload(URL_OF_IT, { signal, fetch });
    await expect(stream.getReader().read()).resolves.toMatchObject({ done: false });
    const again = await openDownload(URL_OF_IT, { signal, fetch });
    const reader = again.stream.getReader();
    await reader.read();
    await expect(reader.read()).rejects.toMatchObject({
      code: 'NETWORK',
      message: `${URL_OF_IT}: the connection broke off after 3 of 4 bytes`,
    });
  });

  it('that stalls fails', async () => {
    const fetch: Fetch = (_, init) => {
      const silent = new ReadableStream({
        start: (controller) => init?.signal?.addEventListener('abort', () => controller.error(new Error('aborted'))),
      });
      return Promise.resolve(new Response(silent));
    };
    const { stream } = await openDownload(URL_OF_IT, { signal, fetch, stallMilliseconds: 20 });
    await expect(stream.getReader().read()).rejects.toMatchObject({ code: 'NETWORK' });
  });

  it.each([
    [404, 'NOT_FOUND'],
    [410, 'NOT_FOUND'],
    [403, 'NETWORK'],
    [500, 'NETWORK'],
    [206, 'NETWORK'],
  ])('that the server answers with status %i is refused with %s', async (status, code) => {
    const fetch = answering(() => new Response('x', { status }));
    await expect(openDownload(URL_OF_IT, { signal, fetch })).rejects.toMatchObject({ code });
  });

  it('that is not wanted any more is ended', async () => {
    let ended = false;
    const fetch: Fetch = (_, init) => {
      init?.signal?.addEventListener('abort', () => (ended = true));
      return Promise.resolve(new Response(new ReadableStream({ pull: (to) => to.enqueue(new Uint8Array(10)) })));
    };
    const { stream } = await openDownload(URL_OF_IT, { signal, fetch });
    await stream.cancel();
    expect(ended).toBe(true);
  });
});
