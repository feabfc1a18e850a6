import { describe, expect, it } from 'vitest';
import {
  iterationsFor,
  MIN_ITERATIONS,
  MIN_NATIVE_ITERATIONS,
  type IterationTools,
} from '../../src/crypto/iteration-count.js';
import { rejection } from './luks-volumes.js';

/** A machine that makes `speed` HMACs a second, with a clock of `tick` milliseconds that only the machine moves. */
function machine(speed: number, tick = 0.001, native = true): IterationTools & { readonly asked: number[] } {
  let time = 0;
  const asked: number[] = [];
  return {
    asked,
    now: () => Math.floor(time / tick) * tick,
    derivation: {
      isNative: () => native,
      pbkdf2: async ({ iterations, length }) => {
        asked.push(iterations);
        time += (iterations * 1000) / speed;
        return new Uint8Array(length);
      },
    },
  };
}

const REQUEST = { hash: 'sha256', keyBytes: 64, iterTime: 2000, maxWork: 2 ** 28 } as const;

describe('the number of iterations', () => {
  it('fills the time: a key of 64 bytes takes two HMACs of SHA-256 an iteration, its digest an eighth of the time', async () => {
    const { slot, keyDigest } = await iterationsFor(REQUEST, machine(1_000_000));
    expect(slot).toBeCloseTo(1_000_000, -3);
    expect(keyDigest).toBeCloseTo(250_000, -3);
  });

  it('follows the hash: four HMACs of SHA-1 for such a key, one for its digest', async () => {
    const { slot, keyDigest } = await iterationsFor({ ...REQUEST, hash: 'sha1' }, machine(1_000_000));
    expect(slot).toBeCloseTo(500_000, -3);
    expect(keyDigest).toBeCloseTo(250_000, -3);
  });

  it('is measured well with a clock of 1 ms, and for less than a second', async () => {
    const slow = machine(3_000_000, 1);
    const { slot } = await iterationsFor(REQUEST, slow);
    expect(Math.abs(slot / 3_000_000 - 1)).toBeLessThan(0.02);
    expect(slow.asked.reduce((sum, iterations) => sum + iterations, 0)).toBeLessThan(3_000_000);
  });

  it('is not lowered by a machine that has other things to do for a while', async () => {
    const quiet = await iterationsFor(REQUEST, machine(1_000_000));
    for (const busy of [1, 2]) {
      const slow = machine(1_000_000);
      const { derivation } = slow;
      let long = 0;
      const interrupted: IterationTools = {
        ...slow,
        derivation: {
          ...derivation,
          pbkdf2: async (request) => {
            const bytes = await derivation.pbkdf2(request);
            // A guest's requests come in between, for as long as the sample itself takes.
            if (request.iterations > 100_000 && ++long <= busy) await derivation.pbkdf2(request);
            return bytes;
          },
        },
      };
      expect(await iterationsFor(REQUEST, interrupted)).toEqual(quiet);
    }
  });

  it('is a thousand at least where the hash runs in JavaScript', async () => {
    const { slot, keyDigest } = await iterationsFor({ ...REQUEST, iterTime: 1 }, machine(100_000, 0.001, false));
    expect([slot, keyDigest]).toEqual([MIN_ITERATIONS, MIN_ITERATIONS]);
  });

  it('is a hundred thousand at least for a slot of a native hash, so that a starved page makes no weak one', async () => {
    const { slot, keyDigest } = await iterationsFor({ ...REQUEST, iterTime: 1 }, machine(100_000));
    expect([slot, keyDigest]).toEqual([MIN_NATIVE_ITERATIONS, MIN_ITERATIONS]);
    expect(MIN_NATIVE_ITERATIONS).toBe(100_000);
  });

  it('counts the digest that an image has already', async () => {
    const request = { ...REQUEST, keyDigestIterations: 1234 };
    expect((await iterationsFor(request, machine(1_000_000))).keyDigest).toBe(1234);
    const much = { ...request, keyDigestIterations: 2 ** 28 };
    expect(await rejection(iterationsFor(much, machine(1_000_000)))).toMatch(/^LIMIT: iterTime is 2000; /);
  });

  it('is not looked for without end where a derivation takes no time', async () => {
    const instant = machine(Infinity);
    expect(await rejection(iterationsFor(REQUEST, instant))).toMatch(
      /^BAD_ARGUMENT: derivation can't be measured: 2\^31 iterations of sha256 take it less than 100 ms/,
    );
    expect(Math.max(...instant.asked)).toBe(2 ** 31);
  });

  it('is a thousand for no time at all, without a measurement', async () => {
    const idle = machine(1);
    expect(await iterationsFor({ ...REQUEST, iterTime: 0 }, idle)).toEqual({ slot: 1000, keyDigest: 1000 });
    expect(idle.asked).toEqual([]);
  });

  it('is refused where an image may not ask for it', async () => {
    const message = await rejection(iterationsFor({ ...REQUEST, iterTime: 60_000 }, machine(5_000_000)));
    expect(message).toMatch(/^LIMIT: iterTime is 60000; it makes \d+ HMACs of sha256 .* may take 268435456$/);
  });

  it('is refused where it has no room in 32 bits, whatever an image may ask for', async () => {
    const request = { ...REQUEST, iterTime: 1e6, maxWork: Infinity };
    expect(await rejection(iterationsFor(request, machine(5_000_000)))).toMatch(/^LIMIT: .* may take 4294967295$/);
  });

  it.each([-1, NaN, Infinity])('is refused for a time of %s', async (iterTime) => {
    expect(await rejection(iterationsFor({ ...REQUEST, iterTime }, machine(1)))).toMatch(
      /^BAD_ARGUMENT: iterTime is .*; it must be 0 or more milliseconds$/,
    );
  });
});
