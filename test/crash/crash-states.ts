/**
 * The crash model: what a medium may hold after the machine stops.
 *
 *   events   w w F w w w w F w w w | w w
 *                          ^       ^ the crash
 *                          the last barrier: all before it is there, in order
 *
 * Of the writes between the last barrier and the crash any subset is there, each write torn at 512 bytes; a truncate is
 * there or not. What survives is applied in its order, so of two writes to one sector either may be the one that stayed.
 */
import { MemoryStorage } from '../../src/index.js';
import type { SeededRandom } from '../support/seeded-random.js';
import type { StorageEvent } from './recording-storage.js';

const SECTOR_BYTES = 512;

/** How much of the unstable writes is kept. The plain ones find most, the random ones find the rest. */
export const KEEPING = [
  'nothing',
  'everything',
  'one',
  'all but one',
  'some writes',
  'some sectors',
  'the last ones',
] as const;
export type Keeping = (typeof KEEPING)[number];

export interface CrashState {
  /** The number of events before the crash. */
  readonly at: number;
  readonly keeping: Keeping;
  /** What the medium holds; owned by the receiver. */
  readonly file: Uint8Array<ArrayBuffer>;
}

export interface CrashChoice {
  readonly count: number;
  /** Events around which every second crash is placed. */
  readonly near: readonly number[];
}

/** Random crash states of a recorded run, in the order of their crash points. */
export function* crashStates(
  start: Uint8Array,
  events: readonly StorageEvent[],
  { count, near }: CrashChoice,
  random: SeededRandom,
): Generator<CrashState> {
  const point = (index: number) => {
    if (near.length === 0 || index % 2 === 0) return random.between(0, events.length);
    return Math.max(0, Math.min(events.length, random.pick(near) + random.between(-12, 6)));
  };
  const points = Array.from({ length: count }, (_, index) => point(index)).sort((a, b) => a - b);
  const stable = new MemoryStorage(start.slice());
  let applied = 0;
  for (const at of points) {
    const barrier = lastBarrierBefore(events, at, applied);
    for (; applied < barrier; applied++) apply(stable, events[applied]);
    const keeping = random.pick(KEEPING);
    const medium = new MemoryStorage(stable.toBytes());
    for (const event of surviving(events.slice(barrier, at), keeping, random)) apply(medium, event);
    yield { at, keeping, file: medium.toBytes() };
  }
}

/** The crash states after each event of a part of a run, with all that was written before: no moment of it is missed. */
export function* statesWithAll(
  start: Uint8Array,
  events: readonly StorageEvent[],
  { from, to }: { readonly from: number; readonly to: number },
): Generator<CrashState> {
  const medium = new MemoryStorage(start.slice());
  for (let at = 0; at <= to; at++) {
    if (at >= from) yield { at, keeping: 'everything', file: medium.toBytes() };
    apply(medium, events[at]);
  }
}

/** The index after the last flush before `at`, at least `floor`. */
function lastBarrierBefore(events: readonly StorageEvent[], at: number, floor: number): number {
  for (let index = at; index > floor; index--) {
    if (events[index - 1]?.kind === 'flush') return index;
  }
  return floor;
}

export function apply(storage: MemoryStorage, event: StorageEvent | undefined): void {
  if (event?.kind === 'write') storage.write(event.offset, event.bytes);
  else if (event?.kind === 'truncate') storage.truncate(event.size);
}

/** What of the `unstable` events is there after the crash; writes may come back in pieces. */
export function surviving(
  unstable: readonly StorageEvent[],
  keeping: Keeping,
  random: SeededRandom,
): readonly StorageEvent[] {
  if (unstable.length === 0) return unstable;
  const chosen = random.below(unstable.length);
  switch (keeping) {
    case 'nothing':
      return [];
    case 'everything':
      return unstable;
    case 'one':
      return [unstable[chosen]].flatMap((event) => event ?? []);
    case 'all but one':
      return unstable.filter((_, index) => index !== chosen);
    case 'some writes':
      return unstable.filter(() => random.oneIn(2));
    case 'the last ones':
      return unstable.slice(chosen);
    case 'some sectors':
      return unstable.flatMap((event) => torn(event, random));
  }
}

/** The pieces of a write that lie in one sector each, some of them lost. */
function torn(event: StorageEvent, random: SeededRandom): StorageEvent[] {
  if (event.kind !== 'write') return random.oneIn(2) ? [event] : [];
  const pieces: StorageEvent[] = [];
  for (let done = 0; done < event.bytes.length;) {
    const offset = event.offset + done;
    const length = Math.min(event.bytes.length - done, SECTOR_BYTES - (offset % SECTOR_BYTES));
    if (random.oneIn(2)) pieces.push({ kind: 'write', offset, bytes: event.bytes.subarray(done, done + length) });
    done += length;
  }
  return pieces;
}
