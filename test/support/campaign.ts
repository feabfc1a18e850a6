/**
 * How long a test with random input goes on: as long as `npm test` has time for, or `FUZZ_TIMES` times that (`npm run fuzz`).
 */

const TIMES = timesOfThisRun();

/** `rounds` of `npm test`, for this run. */
export function roundsOfThisRun(rounds: number): number {
  return rounds * TIMES;
}

/** Milliseconds that a test may take which takes `milliseconds` at most in `npm test`. */
export function timeoutOfThisRun(milliseconds: number): number {
  return milliseconds * TIMES;
}

function timesOfThisRun(): number {
  const wanted = process.env['FUZZ_TIMES'] ?? '1';
  const times = Number(wanted);
  if (Number.isInteger(times) && times >= 1) return times;
  throw new Error(`FUZZ_TIMES is ${wanted}; it must be a whole number above 0`);
}
