/**
 * A base image over a fake server. They prove:
 * - what is read is what the server has, whatever the order and the faults, and each chunk is fetched once, by all tabs together;
 * - what a guest waits for comes first, and what nobody waits for any more is not fetched.
 */
import { describe, expect, it, vi } from 'vitest';
import { Qcow2Error } from '../../src/errors.js';
import { HttpStorage } from '../../src/network/http-storage.js';
import { NotResident, settle } from '../../src/storage/not-resident.js';
import { READ_ONLY_CONTENT, READ_ONLY_STORAGE_CASES, patternBytes } from '../storage/conformance.js';
import { expectSameBytes } from '../support/model-disk.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';
import type { FakeServer, Fault } from './fake-server.js';
import { MemoryBases, hostOn } from './memory-bases.js';
import {
  ADDRESS,
  CHUNK,
  SIZE,
  closeBasesAfterEach,
  errorOf,
  open,
  readAt,
  served,
  timesFetched,
} from './opened-base.js';

closeBasesAfterEach();

describe('a base image as a storage', () => {
  it.each(READ_ONLY_STORAGE_CASES.map(({ title, run }) => ({ title, run })))('$title', async ({ run }) => {
    const base = await open(hostOn(served(READ_ONLY_CONTENT)));
    await settle(() => run(new HttpStorage(base, { ownsBase: false })));
  });

  it('faults for what is not here, and answers at once for what is', async () => {
    const base = await open(hostOn(served()));
    const target = new Uint8Array(10);
    expect(() => base.read(5 * CHUNK, target)).toThrow(NotResident);
    expect(await readAt(base, 5 * CHUNK, 10)).toEqual(patternBytes(SIZE).slice(5 * CHUNK, 5 * CHUNK + 10));
    expect(() => base.read(5 * CHUNK, target)).not.toThrow();
  });

  it('is open when its first chunk is here, which is not fetched again', async () => {
    const server = served();
    const base = await open(hostOn(server));
    base.read(0, new Uint8Array(CHUNK));
    expect(server.requests).toHaveLength(1);
    expect(base.status()).toMatchObject({ size: SIZE, identity: 'etag:"v1"', fetchedBytes: CHUNK, requests: 1 });
  });

  it('refuses to be read after close(), and ends what is being fetched', async () => {
    const server = served();
    const base = await open(hostOn(server));
    server.fault = () => ({ kind: 'silent' });
    const reading = errorOf(readAt(base, 9 * CHUNK, 1));
    await new Promise((resolve) => setTimeout(resolve, 5));
    base.close();
    expect((await reading).code).toBe('ABORTED');
    expect(server.ended).toBe(1);
    expect(() => base.read(0, new Uint8Array(1))).toThrow('closed');
  });
});

describe('reading in any order', () => {
  /** Every fault that passes, now and then, but no more in a row than is put up with. */
  function faults(random: SeededRandom): FakeServer['fault'] {
    let inRow = 0;
    return () => {
      if (inRow >= 3 || !random.oneIn(4)) {
        inRow = 0;
        return null;
      }
      inRow++;
      const after = random.below(2 * CHUNK);
      return random.pick<Fault>([
        { kind: 'unreachable' },
        { kind: 'status', status: 503 },
        { kind: 'truncated', after },
        { kind: 'broken', after },
        { kind: 'too long' },
        { kind: 'wrong range' },
        { kind: 'no content-range' },
      ]);
    };
  }

  it.each([
    { title: 'from a good server, each chunk once', faulty: false, kept: true },
    { title: 'from a server that fails again and again', faulty: true, kept: true },
    { title: 'with nothing kept', faulty: true, kept: false },
  ])('gives what the server has, $title', async ({ title, faulty, kept }) => {
    for (let round = 0; round < 6; round++) {
      await withSeed(title, seedOfThisRun(100 + round), async (random) => {
        const content = random.bytes(SIZE);
        const server = served(content);
        if (faulty) server.fault = faults(random);
        const base = await open(hostOn(server, kept ? new MemoryBases() : null));
        const reads = Array.from({ length: 40 }, async () => {
          const offset = random.below(SIZE + 100);
          const length = random.below(random.pick([600, CHUNK, 5 * CHUNK]));
          const expected = new Uint8Array(length);
          expected.set(content.subarray(offset, offset + length));
          expectSameBytes(await readAt(base, offset, length), expected, `${length} bytes at ${offset}`);
        });
        await Promise.all(reads);
        if (!faulty) expect([...timesFetched(server).values()].every((times) => times === 1)).toBe(true);
        expect(server.mostOpen).toBeLessThanOrEqual(6);
      });
    }
  });

  it('settles where memory has room for less than one operation reads', async () => {
    const base = await open({ ...hostOn(served()), memoryBytes: CHUNK });
    const target = new Uint8Array(3);
    await settle(() => {
      for (const index of [1, 7, 13, 4]) base.read(index * CHUNK, target);
    });
    expect(target).toEqual(patternBytes(SIZE).slice(4 * CHUNK, 4 * CHUNK + 3));
  });
});

describe('what was fetched once', () => {
  it('is there on the next visit, and nobody is asked for it, nor for the base itself', async () => {
    const [server, bases] = [served(), new MemoryBases()];
    const first = await open(hostOn(server, bases));
    await readAt(first, 3 * CHUNK, 2 * CHUNK);
    await first.makeAvailableOffline();
    const pin = first.source.identity;
    first.close();
    server.fault = () => ({ kind: 'unreachable' });
    const before = server.requests.length;
    const second = await open(hostOn(server, bases), { pin });
    expectSameBytes(await readAt(second, 0, SIZE), patternBytes(SIZE), 'the second visit');
    expect(server.requests).toHaveLength(before);
    expect(second.status()).toMatchObject({ keptBytes: SIZE, fetchedBytes: 0, notKept: null });
  });

  it('opens without a network also where no version is pinned', async () => {
    const [server, bases] = [served(), new MemoryBases()];
    const first = await open(hostOn(server, bases));
    await first.makeAvailableOffline();
    first.close();
    server.fault = () => ({ kind: 'unreachable' });
    const second = await open(hostOn(server, bases));
    expectSameBytes(await readAt(second, 0, SIZE), patternBytes(SIZE), 'offline');
  });

  it('is fetched by one of several tabs, and read by all', async () => {
    await withSeed('several tabs', seedOfThisRun(7), async (random) => {
      const [server, bases] = [served(), new MemoryBases()];
      const tabs = await Promise.all([1, 2, 3].map(() => open(hostOn(server, bases))));
      const probes = server.requests.splice(0).length;
      const reads = Array.from({ length: 60 }, async () => {
        const offset = random.below(SIZE - 3 * CHUNK);
        const length = random.below(3 * CHUNK);
        const bytes = await readAt(random.pick(tabs), offset, length);
        expectSameBytes(bytes, patternBytes(SIZE).subarray(offset, offset + length), 'a tab');
      });
      await Promise.all(reads);
      expect(probes).toBe(3);
      expect([...timesFetched(server).values()].every((times) => times === 1)).toBe(true);
    });
  });

  it('is fetched anew where it was damaged since', async () => {
    const [server, bases] = [served(), new MemoryBases()];
    const first = await open(hostOn(server, bases));
    await first.makeAvailableOffline();
    first.close();
    const file = [...bases.files.values()][0]!;
    file.write(file.size - 100, Uint8Array.of(1, 2, 3, 4));
    const before = server.requests.length;
    const second = await open(hostOn(server, bases), { pin: 'etag:"v1"' });
    expectSameBytes(await readAt(second, 0, SIZE), patternBytes(SIZE), 'after the damage');
    expect(server.requests.length - before).toBe(1);
  });

  it.each([
    { title: 'another tab has the file for itself', code: 'IN_USE' as const },
    { title: 'there is no room', code: 'NO_SPACE' as const },
  ])('is in memory where $title, and the page is told', async ({ code }) => {
    const bases = new MemoryBases();
    if (code === 'IN_USE') bases.refusal = new Qcow2Error('IN_USE', 'another tab or worker has the file open');
    else bases.quota = 8 * CHUNK;
    const server = served();
    const base = await open(hostOn(server, bases));
    expectSameBytes(await readAt(base, 0, SIZE), patternBytes(SIZE), 'all of it');
    await vi.waitFor(() => expect(base.status().notKept).toContain('not kept here'));
    expect((await errorOf(base.makeAvailableOffline())).code).toBe(code);
  });
});

describe('who waits', () => {
  it('is ended by its signal, and then nothing is fetched for it', async () => {
    const server = served();
    const base = await open(hostOn(server));
    server.fault = () => ({ kind: 'silent' });
    server.requests.length = 0;
    const reset = new AbortController();
    const reading = errorOf(settle(() => base.read(9 * CHUNK, new Uint8Array(1)), reset.signal));
    await vi.waitFor(() => expect(server.requests).toHaveLength(1));
    reset.abort();
    expect((await reading).code).toBe('ABORTED');
    expect(server.ended).toBe(1);
    server.fault = () => null;
    expect(await readAt(base, 9 * CHUNK, 1)).toEqual(patternBytes(SIZE).slice(9 * CHUNK, 9 * CHUNK + 1));
  });

  it('goes on waiting when another one for the same chunk has left', async () => {
    const server = served();
    const base = await open(hostOn(server));
    const reset = new AbortController();
    const left = errorOf(settle(() => base.read(9 * CHUNK, new Uint8Array(1)), reset.signal));
    const stayed = readAt(base, 9 * CHUNK + 5, 1);
    reset.abort();
    expect((await left).code).toBe('ABORTED');
    expect(await stayed).toEqual(patternBytes(SIZE).slice(9 * CHUNK + 5, 9 * CHUNK + 6));
    expect(timesFetched(server).get(9)).toBe(1);
  });

  it('comes before what is fetched for later', async () => {
    const server = served();
    const base = await open(hostOn(server));
    server.requests.length = 0;
    const all = base.makeAvailableOffline().catch((error: unknown) => error);
    await readAt(base, 19 * CHUNK, 1);
    const order = server.requests.map(({ range }) => range);
    expect(order.findIndex((range) => range?.startsWith(`bytes=${19 * CHUNK}-`))).toBeLessThanOrEqual(4);
    expect(await all).toBeInstanceOf(Qcow2Error);
  });

  it('reads on without waiting for each chunk', async () => {
    const server = served();
    const base = await open(hostOn(server));
    const askedBytes = () =>
      [...timesFetched(server).keys()].reduce((sum, index) => sum + Math.min(CHUNK, SIZE - index * CHUNK), 0);
    let faults = 0;
    for (let offset = 0; offset < SIZE; offset += 16_384) {
      try {
        base.read(offset, new Uint8Array(16_384));
      } catch {
        faults++;
        await readAt(base, offset, 16_384);
      }
      // What is fetched ahead has arrived before the next read, and been taken in.
      do await new Promise((resolve) => setTimeout(resolve, 0));
      while (base.status().fetchedBytes < askedBytes());
    }
    expect(faults).toBeLessThan(6);
    expect([...timesFetched(server).values()].every((times) => times === 1)).toBe(true);
  });
});

describe('all of it made available', () => {
  it('tells how far it is, can be paused, and goes on where it was', async () => {
    const large = 100 * CHUNK + 5;
    const [server, bases] = [served(new Uint8Array(large).fill(7)), new MemoryBases()];
    const base = await open(hostOn(server, bases));
    const pause = new AbortController();
    const seen: number[] = [];
    const first = errorOf(
      base.makeAvailableOffline({
        signal: pause.signal,
        onProgress: ({ done }) => {
          seen.push(done);
          if (done > 8 * CHUNK) pause.abort();
        },
      }),
    );
    expect((await first).code).toBe('ABORTED');
    await new Promise((resolve) => setTimeout(resolve, 20));
    const kept = base.status().keptBytes;
    expect(kept).toBeGreaterThanOrEqual(8 * CHUNK);
    expect(kept).toBeLessThan(large);
    const words = new Set<string>();
    let last = { done: 0, total: 0 };
    await base.makeAvailableOffline({
      onProgress: (progress) => {
        words.add(progress.what);
        last = progress;
      },
    });
    expect([...words]).toEqual(['fetching the base image', 'verifying the base image']);
    expect(last).toMatchObject({ done: large, total: large });
    expect(base.status().keptBytes).toBe(large);
    expect(seen).toEqual(seen.toSorted((one, other) => one - other));
  });

  it('fetches again what was damaged in the file', async () => {
    const [server, bases] = [served(), new MemoryBases()];
    const base = await open(hostOn(server, bases));
    await base.makeAvailableOffline();
    const file = [...bases.files.values()][0]!;
    file.write(file.size - 5, Uint8Array.of(9, 9));
    await base.makeAvailableOffline();
    base.close();
    server.fault = () => ({ kind: 'unreachable' });
    const after = await open(hostOn(server, bases), { pin: 'etag:"v1"' });
    expectSameBytes(await readAt(after, 0, SIZE), patternBytes(SIZE), 'mended');
  });
});

describe('a boot profile', () => {
  it('has what was read, in order, and brings it ahead of the next reader', async () => {
    const server = served();
    const recording = await open(hostOn(server));
    for (const index of [7, 2, 3, 7, 15]) await readAt(recording, index * CHUNK + 5, 100);
    const profile = recording.profile();
    expect(profile.touched).toEqual([
      [7 * CHUNK, CHUNK],
      [2 * CHUNK, 2 * CHUNK],
      [15 * CHUNK, CHUNK],
    ]);
    const fresh = served();
    const base = await open(hostOn(fresh), {}, { ...ADDRESS, chunkBytes: 2 * CHUNK });
    fresh.requests.length = 0;
    await base.prefetch(profile);
    const firsts = fresh.requests.map(({ range }) => Number(/\d+/.exec(range ?? '')![0]) / (2 * CHUNK));
    expect(firsts).toEqual([3, 1, 7]);
    base.read(15 * CHUNK, new Uint8Array(100));
  });

  it('of an image of another size brings nothing', async () => {
    const server = served();
    const base = await open(hostOn(server));
    const profile = { ...base.profile(), size: SIZE + 1, touched: [[0, 5 * CHUNK]] as const };
    await base.prefetch(profile);
    expect(server.requests).toHaveLength(1);
  });
});
