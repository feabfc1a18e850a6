/**
 * Time travel: a snapshot every so many seconds that the machine runs, of which the last few are kept. Their names are a
 * prefix and a number that goes up; what is named otherwise is never touched.
 *
 * A machine that stands still, or whose processor has halted for good, gets none: it has nothing new.
 */
import { Qcow2Error } from '../errors.js';
import type { MachineSnapshot, SaveSnapshotOptions } from './machine-snapshots.js';

/** What a save takes goes for each of them. */
export interface CheckpointOptions extends SaveSnapshotOptions {
  /** Of the machine's running time, between the end of one and the start of the next. */
  readonly seconds: number;
  /** How many are kept; at least 1. */
  readonly keep: number;
  /** `checkpoint` unless told. */
  readonly prefix?: string;
  readonly onCheckpoint?: (snapshot: MachineSnapshot) => void;
  /** One that could not be made, or an old one that could not be deleted. It goes on all the same. */
  readonly onError?: (error: unknown) => void;
}

export interface Checkpoints {
  /** No more of them; resolves when the one under way has ended. */
  stop(): Promise<void>;
}

/** What checkpoints are made of. */
export interface CheckpointMachine {
  save(name: string, options: SaveSnapshotOptions): Promise<MachineSnapshot>;
  delete(id: string): Promise<void>;
  list(): Promise<readonly { readonly id: string; readonly name: string }[]>;
  /** Milliseconds that it has run; never goes back. */
  runningTime(): number;
  /** Changes while the processor works. */
  instructions(): number;
}

/** How often a machine that stands still is looked at, and how far ahead a timer can be set. */
const SHORTEST_WAIT_MILLISECONDS = 100;
const LONGEST_WAIT_MILLISECONDS = 2 ** 31 - 1;

const NUMBER = /^[1-9]\d{0,14}$/;

/** @throws `BAD_ARGUMENT` for a time or a number that is none. */
export function startCheckpoints(machine: CheckpointMachine, options: CheckpointOptions): Checkpoints {
  const { seconds, keep, onCheckpoint, onError } = options;
  if (!(seconds > 0)) throw new Qcow2Error('BAD_ARGUMENT', `seconds is ${seconds}; it must be above 0`);
  if (!Number.isSafeInteger(keep) || keep < 1) {
    throw new Qcow2Error('BAD_ARGUMENT', `keep is ${keep}; it must be a whole number from 1 on`);
  }
  const prefix = `${options.prefix ?? 'checkpoint'} `;
  let timer: ReturnType<typeof setTimeout>;
  let underWay: Promise<void> = Promise.resolve();
  let hasStopped = false;
  let lastAt = machine.runningTime();
  let lastInstructions: number | null = null;

  const leftMilliseconds = (): number => lastAt + seconds * 1000 - machine.runningTime();
  const wait = (): void => {
    if (hasStopped) return;
    const milliseconds = Math.max(SHORTEST_WAIT_MILLISECONDS, leftMilliseconds());
    timer = setTimeout(look, Math.min(milliseconds, LONGEST_WAIT_MILLISECONDS));
  };
  const look = (): void => {
    if (leftMilliseconds() > 0 || machine.instructions() === lastInstructions) return wait();
    underWay = make()
      .catch((error: unknown) => onError?.(error))
      .finally(() => {
        lastAt = machine.runningTime();
        wait();
      });
  };
  const make = async (): Promise<void> => {
    const last = (await checkpointsOf(machine, prefix)).at(-1)?.number ?? 0;
    const instructions = machine.instructions();
    const snapshot = await machine.save(prefix + (last + 1), options);
    lastInstructions = instructions;
    const all = await checkpointsOf(machine, prefix);
    for (const { id } of all.slice(0, -keep)) await machine.delete(id);
    onCheckpoint?.(snapshot);
  };
  wait();
  return {
    stop: () => {
      hasStopped = true;
      clearTimeout(timer);
      return underWay;
    },
  };
}

/** Those of this prefix, by their numbers. */
async function checkpointsOf(machine: CheckpointMachine, prefix: string): Promise<{ id: string; number: number }[]> {
  return (await machine.list())
    .filter(({ name }) => name.startsWith(prefix) && NUMBER.test(name.slice(prefix.length)))
    .map(({ id, name }) => ({ id, number: Number(name.slice(prefix.length)) }))
    .toSorted((one, other) => one.number - other.number);
}
