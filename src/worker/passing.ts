/**
 * Which requests may pass a job that came before them, between two of its steps: those that can't be told from ones that came before it.
 * None of them is a job itself.
 *
 * A job that waits behind another lets the same pass as when it runs. Whatever else waits holds back all that come after it.
 */
import type { RequestKind, RequestMessage } from './protocol.js';

/** `exportOfMoment`: an export of what a snapshot holds. `onFiles`: what a worker does that has no disk open. */
export type JobKind = 'export' | 'exportOfMoment' | 'deleteSnapshot' | 'onFiles';

/** What is begun in its turn, and not waited for. */
const BESIDE = [
  'addPassphrase',
  'changePassphrase',
  'erasePassphrase',
  'bases',
  'fetchBases',
  'dropExport',
] as const satisfies readonly RequestKind[];
export const BESIDE_THE_QUEUE: ReadonlySet<RequestKind> = new Set(BESIDE);

/** What uses the disk, and no snapshot of it. */
const OF_THE_DISK = ['read', 'write', 'writeZeroes', 'discard', 'flush', 'stats', ...BESIDE] as const;

const PASS: Readonly<Record<JobKind, ReadonlySet<RequestKind>>> = {
  /** It is of one moment: what changes nothing that it looks at. */
  export: new Set<RequestKind>(['read', 'flush', 'stats', 'listSnapshots', 'readVmState', 'listBitmaps', ...BESIDE]),
  /**
   * What a snapshot holds is copied away from before it is written, so the disk may be used in all ways, and snapshots be made, those of a
   * running machine. None may be deleted: the copy may be about it.
   */
  exportOfMoment: new Set<RequestKind>([
    ...OF_THE_DISK,
    'listSnapshots',
    'readVmState',
    'writeVmState',
    'discardVmState',
    'createSnapshot',
    'listBitmaps',
  ]),
  /** The same; what looks at the snapshots, or changes which there are, waits until it is clear whether this one is there. */
  deleteSnapshot: new Set<RequestKind>(OF_THE_DISK),
  onFiles: new Set<RequestKind>(),
};

/** How requests that wait are passed, by their kind, where they are jobs. */
const WAITING_JOBS: Partial<Record<RequestKind, JobKind>> = { deleteSnapshot: 'deleteSnapshot', export: 'export' };

/** Takes the first of `waiting` that may pass `job` and those before it out of the list; undefined for none. */
export function takePassing(waiting: RequestMessage[], job: JobKind): RequestMessage | undefined {
  const held: JobKind[] = [job];
  for (const [index, message] of waiting.entries()) {
    const { kind } = message.request;
    if (held.every((before) => PASS[before].has(kind))) return waiting.splice(index, 1)[0];
    const waits = WAITING_JOBS[kind];
    if (waits === undefined) return undefined;
    held.push(waits);
  }
  return undefined;
}
