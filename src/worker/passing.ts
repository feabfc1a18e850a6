/**
 * Which requests may pass a job that came before them, between two of its steps: those that can't be told from ones that came before it.
 * None of them is a job itself.
 *
 * A job that waits behind another lets the same pass as when it runs. Whatever else waits holds back all that come after it.
 */
import { isOfNow, isOfSnapshot } from './export-job.js';
import type { Request, RequestKind, RequestMessage } from './protocol.js';

/** `exportOfMoment`: an export of what a snapshot holds. `onFiles`: what a worker does that has no disk open. */
export type JobKind = 'export' | 'exportOfMoment' | 'deleteSnapshot' | 'onFiles';

/** What is begun in its turn, and not waited for. */
const BESIDE = [
  'addPassphrase',
  'changePassphrase',
  'erasePassphrase',
  'bases',
  'fetchBases',
] as const satisfies readonly RequestKind[];

/** A save comes back for its turn in the queue at once, and does beside it only what has nothing to do with the disk. */
export const BESIDE_THE_QUEUE: ReadonlySet<RequestKind> = new Set<RequestKind>([...BESIDE, 'save']);

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

/** As what a request that waits is passed; null where it is no job. */
function waitingJob(request: Request): JobKind | null {
  if (request.kind === 'deleteSnapshot') return 'deleteSnapshot';
  if (request.kind !== 'export' && request.kind !== 'save') return null;
  // It is of the moment at which it begins, whatever is written before that.
  return isOfNow(request.content) || isOfSnapshot(request.content) ? 'exportOfMoment' : 'export';
}

/**
 * Takes the first of `waiting` that may pass `job` and those before it out of the list; undefined for none, and where `mayPass` refuses it: then
 * it waits, and all that come after it.
 */
export function takePassing(
  waiting: RequestMessage[],
  job: JobKind,
  mayPass: (request: Request) => boolean = () => true,
): RequestMessage | undefined {
  const held: JobKind[] = [job];
  for (const [index, { request }] of waiting.entries()) {
    if (held.every((before) => PASS[before].has(request.kind))) {
      return mayPass(request) ? waiting.splice(index, 1)[0] : undefined;
    }
    const waits = waitingJob(request);
    if (waits === null) return undefined;
    held.push(waits);
  }
  return undefined;
}
