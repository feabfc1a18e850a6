/** Room for what is fetched, in the file and in memory. They prove: nothing is downloaded that can't be kept, and memory stays within its bounds. */
import { describe, expect, it, vi } from 'vitest';
import type { NetworkBase } from '../../src/network/network-base.js';
import { NotResident, settle } from '../../src/storage/not-resident.js';
import { patternBytes } from '../storage/conformance.js';
import { expectSameBytes } from '../support/model-disk.js';
import { MemoryBases, hostOn } from './memory-bases.js';
import { CHUNK, SIZE, closeBasesAfterEach, errorOf, open, readAt, served } from './opened-base.js';

closeBasesAfterEach();

const CHUNKS = Math.ceil(SIZE / CHUNK);

/** The chunks that a read finds, asked for in an order in which nothing is fetched ahead. */
function chunksHere(base: NetworkBase): number {
  let count = 0;
  for (const index of Array.from({ length: CHUNKS }, (_, nth) => (nth * 8) % CHUNKS)) {
    try {
      base.read(index * CHUNK, new Uint8Array(1));
      count++;
    } catch (error) {
      if (!(error instanceof NotResident)) throw error;
    }
  }
  return count;
}

describe('a site without room for all of a base', () => {
  it('is told so by makeAvailableOffline before a byte is fetched, and can try again', async () => {
    const [server, bases] = [served(), new MemoryBases()];
    const room = { quota: 10 * CHUNK, usage: 5 * CHUNK };
    const base = await open({ ...hostOn(server, bases), estimateRoom: () => Promise.resolve(room) });
    const error = await errorOf(base.makeAvailableOffline());
    expect(error.code).toBe('NO_SPACE');
    expect(error.message).toContain(`${SIZE - CHUNK} bytes`);
    expect(error.message).toContain(`${5 * CHUNK} more`);
    expect(server.requests).toHaveLength(1);
    room.quota = 30 * CHUNK;
    await base.makeAvailableOffline();
    expect(base.status()).toMatchObject({ keptBytes: SIZE, notKept: null });
  });

  it('fetches no more than what was under way when the first chunk could not be kept, and goes on when there is room', async () => {
    const large = 200 * CHUNK;
    const [server, bases] = [served(patternBytes(large)), new MemoryBases()];
    const base = await open(hostOn(server, bases));
    bases.quota = 20 * CHUNK;
    expect((await errorOf(base.makeAvailableOffline())).code).toBe('NO_SPACE');
    expect(base.status().fetchedBytes).toBeLessThan(100 * CHUNK);
    expect(base.status().notKept).toContain('not kept here any further');
    const fetched = base.status().fetchedBytes;
    expect((await errorOf(base.makeAvailableOffline())).code).toBe('NO_SPACE');
    expect(base.status().fetchedBytes).toBeLessThan(fetched + CHUNK);
    bases.quota = Infinity;
    await base.makeAvailableOffline();
    expect(base.status()).toMatchObject({ keptBytes: large, notKept: null });
    // What was in memory was not fetched again.
    expect(base.status().fetchedBytes).toBeLessThan(large + fetched);
    expectSameBytes(await readAt(base, 0, large), patternBytes(large), 'all of it');
  });

  it('fetches nothing for later where nothing can be kept at all', async () => {
    const server = served();
    const base = await open(hostOn(server));
    expect((await errorOf(base.makeAvailableOffline())).code).toBe('UNSUPPORTED');
    expect(server.requests).toHaveLength(1);
  });
});

describe('memory for what is not kept', () => {
  it('has the chunks that fit, however often many operations read all of the base', async () => {
    const base = await open({ ...hostOn(served()), memoryBytes: 4 * CHUNK });
    for (let round = 0; round < 3; round++) {
      for (let index = 0; index < CHUNKS; index++) await readAt(base, ((index * 8) % CHUNKS) * CHUNK, 10);
    }
    await vi.waitFor(() => expect(chunksHere(base)).toBeLessThanOrEqual(4));
  });

  it('grows for one operation that reads more, up to what was allowed, and fails one that needs still more', async () => {
    const base = await open({ ...hostOn(served()), memoryBytes: CHUNK, maxMemoryBytes: 6 * CHUNK });
    const readEach = (indices: readonly number[]): Promise<void> =>
      settle(() => {
        for (const index of indices) base.read(index * CHUNK, new Uint8Array(3));
      });
    await readEach([1, 7, 13, 4, 10, 16]);
    expect(chunksHere(base)).toBe(6);
    expect((await errorOf(readEach([2, 8, 14, 5, 11, 17, 1]))).code).toBe('LIMIT');
    expect((await errorOf(readAt(base, 0, 7 * CHUNK))).code).toBe('LIMIT');
    expect(chunksHere(base)).toBeLessThanOrEqual(6);
    expectSameBytes(await readAt(base, 0, 6 * CHUNK), patternBytes(SIZE).subarray(0, 6 * CHUNK), 'what does fit');
  });
});
