/**
 * Room for an export beside a disk that is being written. Both want the room that the site has left, and the disk comes first:
 *
 *   1. an export that can't have room, as far as the browser tells, is refused before anything is written
 *   2. while it runs, each change of the disk has its room before it is begun (`operations/snapshots/moment-room.ts`)
 *   3. where there is none the change waits, the export is given up with `NO_SPACE`, its file is removed and its moment released, and then
 *      the change is carried out
 *
 * What is left: a release of the moment that fails all the same leaves a snapshot, and a disk that takes its room as one with snapshots does.
 */
import { Qcow2Error, isQcow2Error } from '../errors.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import type { EstimateRoom, RoomEstimate } from '../network/make-offline.js';
import { reserveForChange, type ComingChange } from '../operations/snapshots/moment-room.js';
import type { BetweenSteps, WhileLoading } from './job.js';
import type { ExportContent, Request } from './protocol.js';

/** For what is written to the disk while it is exported, and for what the export needs beside the data. */
const MARGIN_BYTES = 8 * 1024 * 1024;

export class ExportRoom {
  readonly #image: Qcow2Image;
  /** Aborted when the export that runs is to be given up; null while the disk is written as usual. */
  #shortage: AbortController | null = null;

  constructor(image: Qcow2Image) {
    this.#image = image;
  }

  /** Whether a request may be carried out while an export runs. Where not, the export is given up, and the request is to wait for that. */
  hasRoomFor(request: Request): boolean {
    const change = this.#shortage === null ? null : changeOf(request, this.#image);
    if (change === null) return true;
    try {
      reserveForChange(this.#image, change);
    } catch (error) {
      // Whatever else is wrong the request itself will say.
      if (!isQcow2Error(error, 'NO_SPACE')) return true;
      this.#shortage?.abort();
      return false;
    }
    return true;
  }

  /** From now on each change of the disk has its room first. */
  watch(): void {
    this.#shortage = new AbortController();
  }

  /** The disk is written as usual again. */
  unwatch(): void {
    this.#shortage = null;
  }

  /** `between`, and then the end of an export that has to be given up; one that is done is not. */
  between(between: BetweenSteps): BetweenSteps {
    return async (progress) => {
      await between(progress);
      if (this.#shortage?.signal.aborted && progress.done < progress.total) throw givenUp();
    };
  }

  /** The same while a step waits for a server. */
  whileLoading(whileLoading: WhileLoading): WhileLoading {
    return async (load) => {
      const shortage = this.#shortage?.signal;
      const signals = (given?: AbortSignal): AbortSignal | undefined =>
        given === undefined || shortage === undefined ? (given ?? shortage) : AbortSignal.any([given, shortage]);
      try {
        await whileLoading((signal) => load(signals(signal)));
      } catch (error) {
        if (shortage?.aborted) throw givenUp();
        throw error;
      }
    };
  }
}

/**
 * Refuses an export of which can be told that it will find no room: of one that is not compressed it is taken that it needs what the file has,
 * or the disk where that is smaller; what it needs of a base image below, and how well another compresses, is not known.
 * @param estimate null where nobody can tell. @throws Qcow2Error `NO_SPACE`.
 */
export async function checkExportRoom(
  image: Qcow2Image,
  content: ExportContent,
  estimate: EstimateRoom | null,
): Promise<void> {
  const needed = MARGIN_BYTES + leastBytes(image, content);
  const { quota, usage }: RoomEstimate = (await estimate?.().catch(() => null)) ?? {};
  if (quota === undefined || usage === undefined || needed <= quota - usage) return;
  throw new Qcow2Error(
    'NO_SPACE',
    `the export needs about ${needed} bytes, and the browser has room for ${Math.max(0, quota - usage)} more of this site`,
  );
}

function leastBytes(image: Qcow2Image, content: ExportContent): number {
  const fileBytes = image.storage.size;
  if (content.of === 'file') return fileBytes;
  if (content.of === 'increment' || (content.compress ?? false) !== false) return 0;
  const holdsSeveral = content.of === 'disk' && content.snapshots;
  return holdsSeveral ? fileBytes : Math.min(fileBytes, image.size);
}

/** Null for what writes nothing to the disk, or sees to its room itself as snapshots do. */
function changeOf(request: Request, image: Qcow2Image): ComingChange | null {
  switch (request.kind) {
    case 'write':
    case 'writeVmState':
      return { length: request.bytes.length, fills: true };
    case 'writeZeroes':
      // Tables of version 2 have no mark for zeroes.
      return { length: Math.min(request.length, image.size), fills: image.header.version < 3 };
    case 'discard':
      return { length: Math.min(request.length, image.size), fills: false };
    default:
      return null;
  }
}

function givenUp(): Qcow2Error {
  return new Qcow2Error(
    'NO_SPACE',
    'the export was given up: there is no room for both it and what is written to the disk',
  );
}
