/** Images in parts, for hosts without Range: made, fetched, verified part by part; and each way in which a manifest can be none. */
import { describe, expect, it } from 'vitest';
import { Qcow2Error } from '../../src/errors.js';
import { openNetworkBase } from '../../src/network/open-base.js';
import { digestText, manifestText, parseManifest, partName } from '../../src/network/split-manifest.js';
import { settle } from '../../src/storage/not-resident.js';
import { patternBytes } from '../storage/conformance.js';
import { expectSameBytes } from '../support/model-disk.js';
import { FakeServer } from './fake-server.js';
import { MemoryBases, hostOn } from './memory-bases.js';

const PART = 64 * 1024;
const SIZE = 5 * PART + 321;
const MANIFEST = 'https://example.test/images/base.split.json';

/** Puts an image on a server that knows no ranges. */
function serveSplit(content: Uint8Array<ArrayBuffer>, server = new FakeServer()): FakeServer {
  server.knowsRanges = false;
  const digests: string[] = [];
  for (let at = 0; at < content.length; at += PART) {
    const part = content.slice(at, at + PART);
    digests.push(digestText(part));
    server.put(`https://example.test/images/${partName(digestText(part))}`, part, null);
  }
  const text = manifestText(content.length, PART, digests);
  server.put(MANIFEST, new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>, null);
  return server;
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'none',
    (error: unknown) => (error instanceof Qcow2Error ? error.code : String(error)),
  );
}

const ADDRESS = { url: MANIFEST, split: true };

describe('a split image', () => {
  it('reads as the image, each part fetched once, without a range', async () => {
    const server = serveSplit(patternBytes(SIZE));
    const base = await openNetworkBase(hostOn(server), ADDRESS);
    const target = new Uint8Array(SIZE);
    await settle(() => base.read(0, target));
    expectSameBytes(target, patternBytes(SIZE), 'the image');
    expect(server.requests.every(({ range }) => range === null)).toBe(true);
    expect(server.requests).toHaveLength(1 + 6);
    base.close();
  });

  it('opens without the manifest when it is all here', async () => {
    const [server, bases] = [serveSplit(patternBytes(SIZE)), new MemoryBases()];
    const first = await openNetworkBase(hostOn(server, bases), ADDRESS);
    await first.makeAvailableOffline();
    first.close();
    server.fault = () => ({ kind: 'unreachable' });
    const second = await openNetworkBase(hostOn(server, bases), ADDRESS, { pin: first.source.identity });
    const target = new Uint8Array(SIZE);
    await settle(() => second.read(0, target));
    expectSameBytes(target, patternBytes(SIZE), 'offline');
    second.close();
  });

  it('takes no part that is not what the manifest says, and names it', async () => {
    const server = serveSplit(patternBytes(SIZE));
    const base = await openNetworkBase(hostOn(server), ADDRESS);
    const part = partName(digestText(patternBytes(SIZE).slice(PART, 2 * PART)));
    server.files.get(`https://example.test/images/${part}`)!.bytes[77]! ^= 1;
    const reading = settle(() => base.read(PART, new Uint8Array(10)));
    await expect(reading).rejects.toThrow(part);
    base.close();
  });

  it('that changed is found out when a part is missing, though its parts are still there', async () => {
    const [server, bases] = [serveSplit(patternBytes(SIZE)), new MemoryBases()];
    const first = await openNetworkBase(hostOn(server, bases), ADDRESS);
    await settle(() => first.read(0, new Uint8Array(10)));
    await first.whenKept();
    first.close();
    serveSplit(patternBytes(SIZE, 5), server);
    const second = await openNetworkBase(hostOn(server, bases), ADDRESS, { pin: first.source.identity });
    second.read(0, new Uint8Array(10));
    expect(await codeOf(settle(() => second.read(3 * PART, new Uint8Array(10))))).toBe('BASE_CHANGED');
    second.close();
  });

  it('whose manifest is missing, or none, is refused by name', async () => {
    const server = new FakeServer();
    expect(await codeOf(openNetworkBase(hostOn(server), ADDRESS))).toBe('NOT_FOUND');
    server.put(MANIFEST, new TextEncoder().encode('<html>') as Uint8Array<ArrayBuffer>);
    expect(await codeOf(openNetworkBase(hostOn(server), ADDRESS))).toBe('BAD_IMAGE');
  });
});

describe('a manifest', () => {
  const good = JSON.parse(
    manifestText(
      SIZE,
      PART,
      Array.from({ length: 6 }, () => 'a'.repeat(64)),
    ),
  ) as object;

  it('comes back as it was written', () => {
    const { geometry, parts } = parseManifest(JSON.stringify(good), 'm.json');
    expect([geometry.size, geometry.chunkBytes, parts.length]).toEqual([SIZE, PART, 6]);
  });

  it.each<[string, object | string]>([
    ['it is no JSON object', 'nonsense'],
    ['it is no JSON object', 'null'],
    ['"format" is "other"', { ...good, format: 'other' }],
    ['"version" is 2', { ...good, version: 2 }],
    ['must be numbers', { ...good, size: '5' }],
    ['has 0 bytes', { ...good, size: 0, parts: [] }],
    ['chunks of 1000 bytes', { ...good, partBytes: 1000 }],
    ['has 1e+300 bytes', { ...good, size: 1e300 }],
    ['"parts" has 1 entries', { ...good, parts: ['a'.repeat(64)] }],
    [
      '"parts"[2] is "../../etc/passwd"',
      {
        ...good,
        parts: [...'ab']
          .map(() => 'a'.repeat(64))
          .concat('../../etc/passwd', ...['b', 'c', 'd'].map((digit) => digit.repeat(64))),
      },
    ],
  ])('is refused where %s', (says, value) => {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    expect(() => parseManifest(text, 'm.json')).toThrow(says);
    expect(() => parseManifest(text, 'm.json')).toThrow('m.json is no manifest');
  });
});
