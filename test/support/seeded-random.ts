/**
 * Seeded randomness for tests: the same seed gives the same run on every machine.
 *
 * The generator is xorshift32 behind a splitting hash, which is plenty for choosing offsets. The seed of a run is fixed
 * so that a red test stays red; `TEST_SEED=<number>` chooses another, `TEST_SEED=random` a new one each time. A failing
 * run names its seed (see `withSeed`).
 */

const DEFAULT_SEED = 0x51c0_0002;

export class SeededRandom {
  #state: number;

  constructor(readonly seed: number) {
    // Neighbouring seeds must not give neighbouring streams; zero is the one state xorshift never leaves.
    const mixed = Math.imul(seed ^ (seed >>> 16), 0x45d9_f3b5);
    this.#state = (mixed ^ (mixed >>> 13)) | 0 || 0x9e37_79b9;
  }

  /** An integer from 0 to 2^32 - 1. */
  next(): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state;
    return state >>> 0;
  }

  /** An integer from 0 to `limit - 1`; `limit` at least 1, at most 2^32. */
  below(limit: number): number {
    return Math.floor((this.next() / 0x1_0000_0000) * limit);
  }

  /** An integer from `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  /** True once in `times` calls, on average. */
  oneIn(times: number): boolean {
    return this.below(times) === 0;
  }

  pick<T>(choices: readonly T[]): T {
    const choice = choices[this.below(choices.length)];
    if (choice === undefined) throw new Error('pick needs at least one choice');
    return choice;
  }

  /** Random bytes; a third of the calls give one repeated byte, so that runs and zeroes are met too. */
  bytes(length: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length);
    if (this.oneIn(3)) return bytes.fill(this.below(4));
    const words = new Uint32Array(bytes.buffer, 0, length >>> 2);
    for (let index = 0; index < words.length; index++) words[index] = this.next();
    for (let index = length & ~3; index < length; index++) bytes[index] = this.next();
    return bytes;
  }
}

/** The seed of this run, from `TEST_SEED` or fixed. `salt` tells the tests of one run apart. */
export function seedOfThisRun(salt = 0): number {
  const wanted = process.env['TEST_SEED'];
  if (wanted === undefined || wanted === '') return (DEFAULT_SEED + salt) >>> 0;
  if (wanted === 'random') return Math.floor(Math.random() * 0x1_0000_0000);
  const seed = Number(wanted);
  if (!Number.isInteger(seed)) throw new Error(`TEST_SEED is ${wanted}; it must be an integer or "random"`);
  return seed >>> 0;
}

/** Runs `body` with a generator; what it throws is reported together with the seed that brings it back. */
export async function withSeed(
  what: string,
  seed: number,
  body: (random: SeededRandom) => void | Promise<void>,
): Promise<void> {
  try {
    await body(new SeededRandom(seed));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`${what}: ${reason}\n(replay with TEST_SEED=${seed})`, { cause });
  }
}
