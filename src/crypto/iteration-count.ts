/**
 * How many iterations a derivation gets: as many as take the time that was asked for, on this machine, with the derivation
 * that is really in use. As in QEMU, a thousand at least, and an eighth of the time for the digest of the key, so that
 * with all eight slots in use finding the right one costs one time more.
 *
 * A key slot of a native hash gets 100,000 at least, unless no time at all is asked for: who guesses passphrases does so on a machine
 * of his own, and a page that is starved of its processor, or a clock that runs wild, must not make it easy for him. It takes 0.04 s in
 * Chromium. In JavaScript it would take a second, so there the time decides. The digest is one of a random key, which nobody guesses.
 */
import { Qcow2Error } from '../errors.js';
import { KEY_DIGEST_BYTES } from '../format/luks-header.js';
import type { HashName } from './hashes.js';
import type { KeyDerivation } from './key-derivation.js';
import { derivationWork } from './key-limits.js';

/** Milliseconds, as in QEMU. */
export const DEFAULT_ITER_TIME = 2000;
export const MIN_ITERATIONS = 1000;
/** Of a slot whose hash is native. */
export const MIN_NATIVE_ITERATIONS = 100_000;

/** The field has 32 bits. */
const MAX_ITERATIONS = 2 ** 32 - 1;
const DIGEST_SHARE = 8;
/** Long against the coarsest clock of a browser's page (1 ms, but for those that hide from fingerprinting). */
const SAMPLE_MS = 100;
const SAMPLES = 3;
const FIRST_SAMPLE_ITERATIONS = 4096;

export interface IterationTools {
  readonly derivation: KeyDerivation;
  /** Milliseconds that only grow. Default: `performance.now`. */
  readonly now?: () => number;
}

export interface Iterations {
  /** For a key slot. */
  readonly slot: number;
  /** For the digest of the key. */
  readonly keyDigest: number;
}

export interface IterationRequest {
  readonly hash: HashName;
  /** Bytes of the key that a slot derives. */
  readonly keyBytes: number;
  /** Milliseconds, 0 for the fewest iterations. */
  readonly iterTime: number;
  /** Refuses what opening the image would take for too much, in HMACs. */
  readonly maxWork: number;
  /** Those of the image that the slot is for. Default: of a new image, as many as take an eighth of the time. */
  readonly keyDigestIterations?: number;
}

/** Throws `BAD_ARGUMENT` for a time that is none, `LIMIT` for one in which more work is done than `maxWork`. */
export async function iterationsFor(request: IterationRequest, tools: IterationTools): Promise<Iterations> {
  const { iterTime } = request;
  if (!Number.isFinite(iterTime) || iterTime < 0) {
    throw new Qcow2Error('BAD_ARGUMENT', `iterTime is ${iterTime}; it must be 0 or more milliseconds`);
  }
  const iterations = iterTime === 0 ? fewest(request) : await measured(request, tools);
  checkWork(request, iterations);
  return iterations;
}

function fewest({ keyDigestIterations = MIN_ITERATIONS }: IterationRequest): Iterations {
  return { slot: MIN_ITERATIONS, keyDigest: keyDigestIterations };
}

async function measured(request: IterationRequest, tools: IterationTools): Promise<Iterations> {
  const { hash, keyBytes, iterTime, keyDigestIterations } = request;
  const least = tools.derivation.isNative(hash) ? MIN_NATIVE_ITERATIONS : MIN_ITERATIONS;
  const work = (iterTime / 1000) * (await workPerSecond(hash, tools));
  const slot = Math.floor(work / derivationWork(hash, 1, keyBytes));
  const keyDigest = Math.floor(work / derivationWork(hash, 1, KEY_DIGEST_BYTES) / DIGEST_SHARE);
  return { slot: Math.max(least, slot), keyDigest: keyDigestIterations ?? Math.max(MIN_ITERATIONS, keyDigest) };
}

function checkWork({ hash, keyBytes, iterTime, maxWork }: IterationRequest, { slot, keyDigest }: Iterations): void {
  const needed = derivationWork(hash, slot, keyBytes) + derivationWork(hash, keyDigest, KEY_DIGEST_BYTES);
  const limit = Math.min(maxWork, MAX_ITERATIONS);
  if (needed <= limit) return;
  const why = `it makes ${needed} HMACs of ${hash} on this machine, and opening a key slot may take ${limit}`;
  throw new Qcow2Error('LIMIT', `iterTime is ${iterTime}; ${why}`);
}

/**
 * HMACs a second: samples double until one is long enough to be measured, and of a few of that length the shortest counts. A guest
 * that reads and writes meanwhile makes a sample longer, never shorter, and would make the passphrase weaker.
 */
async function workPerSecond(hash: HashName, { derivation, now = () => performance.now() }: IterationTools) {
  const password = new Uint8Array(16);
  const salt = new Uint8Array(16);
  const sample = async (iterations: number): Promise<number> => {
    const start = now();
    await derivation.pbkdf2({ hash, password, salt, iterations, length: 1 });
    return now() - start;
  };
  for (let iterations = FIRST_SAMPLE_ITERATIONS; iterations <= MAX_ITERATIONS; iterations *= 2) {
    let shortest = await sample(iterations);
    for (let count = 1; count < SAMPLES && shortest >= SAMPLE_MS; count++) {
      shortest = Math.min(shortest, await sample(iterations));
    }
    if (shortest >= SAMPLE_MS) return (iterations * 1000) / shortest;
  }
  const why = `2^31 iterations of ${hash} take it less than ${SAMPLE_MS} ms, so it derives nothing, or the clock stands still`;
  throw new Qcow2Error('BAD_ARGUMENT', `derivation can't be measured: ${why}; give iterTime 0`);
}
