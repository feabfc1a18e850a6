/**
 * Bases whose version is a digest that their author gives. No answer of a server can be compared with it, so they prove: what one visit has kept
 * is never mixed with what the server has on the next; and once all is here, it is the digest that decides.
 */
import { createHash } from 'node:crypto';
import { describe, expect, it, vi } from 'vitest';
import { baseFileName } from '../../src/network/kept-bases.js';
import type { BaseAddress } from '../../src/network/open-base.js';
import { patternBytes } from '../storage/conformance.js';
import { expectSameBytes } from '../support/model-disk.js';
import type { FakeServer } from './fake-server.js';
import { MemoryBases, hostOn } from './memory-bases.js';
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

const DIGEST = createHash('sha256').update(patternBytes(SIZE)).digest('hex');
const PIN = `sha256:${DIGEST}`;
const BY_DIGEST: BaseAddress = { ...ADDRESS, digest: DIGEST };

/** A visit that keeps the first chunks. */
async function visitOnce(server: FakeServer, bases: MemoryBases): Promise<void> {
  const base = await open(hostOn(server, bases), {}, BY_DIGEST);
  await readAt(base, CHUNK, CHUNK);
  await base.whenKept();
  base.close();
}

describe('a base with a digest', () => {
  it.each([
    { title: 'by a disk that pins it', pin: PIN },
    { title: 'by one that is to be made', pin: null },
  ])('is not mixed with the next version of its server on a later visit, $title', async ({ pin }) => {
    const [server, bases] = [served(), new MemoryBases()];
    await visitOnce(server, bases);
    server.put(URL_OF_BASE, patternBytes(SIZE, 99), '"v2"');
    const base = await open(hostOn(server, bases), { pin }, BY_DIGEST);
    expectSameBytes(await readAt(base, CHUNK, CHUNK), patternBytes(SIZE).subarray(CHUNK, 2 * CHUNK), 'what was here');
    const error = await errorOf(readAt(base, 9 * CHUNK, 10));
    expect(error.code).toBe('BASE_CHANGED');
    expect(error.message).toContain('"v2"');
    expect(base.status().keptBytes).toBe(2 * CHUNK);
    expect(server.requests.at(-1)!.ifRange).toBe('"v1"');
  });

  it('is refused to a disk that stands on another digest, also where what that one needs is here', async () => {
    const [server, bases] = [served(), new MemoryBases()];
    await visitOnce(server, bases);
    const other = { ...BY_DIGEST, digest: 'cd'.repeat(32) };
    const error = await errorOf(open(hostOn(server, bases), { pin: PIN }, other));
    expect(error.code).toBe('BASE_CHANGED');
    expect(error.message).toContain('cdcd');
  });

  it('has the digest compared once, when all of it is here', async () => {
    const [server, bases] = [served(), new MemoryBases()];
    const base = await open(hostOn(server, bases), {}, BY_DIGEST);
    const file = (): number => bases.files.get(baseFileName(URL_OF_BASE, PIN))!.toBytes()[43]!;
    expect(file()).toBe(0);
    await base.makeAvailableOffline();
    expect(file()).toBe(1);
  });
});

describe('bytes without the digest that they must have', () => {
  /** The server has something else than the author says. */
  function lying(): { server: FakeServer; bases: MemoryBases } {
    return { server: served(patternBytes(SIZE, 5), '"wrong"'), bases: new MemoryBases() };
  }

  it('are found out by makeAvailableOffline, given to nobody any more, and fetched anew at the next opening', async () => {
    const { server, bases } = lying();
    const base = await open(hostOn(server, bases), {}, BY_DIGEST);
    const error = await errorOf(base.makeAvailableOffline());
    expect(error.code).toBe('BASE_CHANGED');
    expect(error.message).toContain(DIGEST);
    expect(() => base.read(0, new Uint8Array(1))).toThrow(DIGEST);
    const stillOpen = await errorOf(open(hostOn(server, bases), { pin: PIN }, BY_DIGEST));
    expect(stillOpen.message).toContain('close that first');
    base.close();
    server.put(URL_OF_BASE, patternBytes(SIZE), '"right"');
    const again = await open(hostOn(server, bases), { pin: PIN }, BY_DIGEST);
    await again.makeAvailableOffline();
    expectSameBytes(await readAt(again, 0, SIZE), patternBytes(SIZE), 'fetched anew');
    expect(bases.held).toBe(1);
  });

  it('are found out beside the use of the disk, on the visit after the one that brought the last of them', async () => {
    const { server, bases } = lying();
    const first = await open(hostOn(server, bases), {}, BY_DIGEST);
    await readAt(first, 0, SIZE);
    await first.whenKept();
    first.close();
    const second = await open(hostOn(server, bases), { pin: PIN }, BY_DIGEST);
    await vi.waitFor(() => expect(() => second.read(0, new Uint8Array(1))).toThrow(DIGEST), 10_000);
  });
});
