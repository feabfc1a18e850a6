/**
 * The exports of the open disk in the worker, of the moment they were asked for: to a temporary file, or to the page, which saves them.
 *
 * - The disk of now is held as a moment where it can be, so that it may be written between the steps; where it can't, writes wait.
 * - The disk comes first where room is short (`export-room.ts`): the export is given up, and its file removed before its moment is released.
 * - A moment is released whatever becomes of the export. Where that fails, the next one, or the next session, sees to it.
 */
import type { Qcow2Image } from '../image/qcow2-image.js';
import { newEncryption, type NewEncryption } from '../image/unlock-image.js';
import type { IncrementToken } from '../operations/bitmaps/export-incremental.js';
import type { EstimateRoom } from '../network/make-offline.js';
import { copiedSnapshots } from '../operations/snapshots/copy-with-snapshots.js';
import { removeLeftMoment, takeMoment, type ExportMoment } from '../operations/snapshots/export-moment.js';
import { settle } from '../storage/not-resident.js';
import { partOf } from '../util/progress.js';
import { checkExport, exportJob, isOfNow, isOfSnapshot, type ExportJob } from './export-job.js';
import { checkExportRoom, ExportRoom } from './export-room.js';
import { PageTarget, TemporaryTarget, type ExportTarget } from './export-target.js';
import type { ImageFiles } from './image-files.js';
import { carryOut, type BetweenSteps, type JobTurns } from './job.js';
import { PieceSender } from './piece-pipe.js';
import type { ExportContent, ExportedFile, ExportRequest, Request, SaveRequest } from './protocol.js';

export class ExportSession {
  readonly #files: ImageFiles;
  readonly #image: Qcow2Image;
  readonly #estimateRoom: EstimateRoom | null;
  readonly #room: ExportRoom;
  #last: string | null = null;

  /** @param estimateRoom null where nobody can tell how much room there is. */
  constructor(files: ImageFiles, image: Qcow2Image, estimateRoom: EstimateRoom | null = null) {
    this.#files = files;
    this.#image = image;
    this.#estimateRoom = estimateRoom;
    this.#room = new ExportRoom(image);
  }

  /** Whether a request that is to pass an export may be carried out now. Where not, it has its turn when the export has been given up. */
  hasRoomFor(request: Request): boolean {
    return this.#room.hasRoomFor(request);
  }

  /** The file replaces that of the export before and stays until nobody holds its lock. */
  async export({ content }: ExportRequest, turns: JobTurns): Promise<ExportedFile> {
    await this.#removeLast();
    const { name, lock } = await this.#files.createTemporary();
    this.#last = name;
    try {
      const token = await this.#write(new TemporaryTarget(this.#files, name), content, turns);
      return { blob: await this.#files.blob(name), lock, token };
    } catch (error) {
      await this.#removeLast();
      throw error;
    }
  }

  /** Sends the file to the page as it is made, where the page can write that. Resolves with its size. */
  async save({ content, inOrder, port }: SaveRequest, turns: JobTurns): Promise<number> {
    const sender = new PieceSender(port);
    try {
      const holdsSeveral = content.of === 'disk' && content.snapshots;
      // What several disks share is read again, and changed, in the copy.
      if (inOrder || (holdsSeveral && copiedSnapshots(this.#image).length > 0)) {
        return await this.#saveWhole(content, sender, turns);
      }
      const target = new PageTarget(sender);
      await this.#write(target, holdsSeveral ? { ...content, snapshots: false } : content, turns);
      return target.size;
    } finally {
      sender.close();
    }
  }

  /** Deletes the moment that a session before has left. The disk may be used meanwhile. What can't be deleted now stays for the next time. */
  async removeLeftMoment(aside: BetweenSteps): Promise<void> {
    try {
      const steps = removeLeftMoment(this.#image);
      if (steps !== null) await carryOut(steps, aside);
    } catch {
      // It is hidden. An image that takes no change any more tells so to the next request.
    }
  }

  /** Makes the file first, and then sends it. */
  async #saveWhole(content: ExportContent, sender: PieceSender, turns: JobTurns): Promise<number> {
    const { name } = await this.#files.createTemporary();
    try {
      await this.#write(new TemporaryTarget(this.#files, name), content, inPart(turns, 0));
      return await this.#send(name, sender, inPart(turns, 1));
    } finally {
      await this.#files.remove(name);
    }
  }

  /** The disk may be used meanwhile. */
  async #send(name: string, sender: PieceSender, turns: JobTurns): Promise<number> {
    const [between, whileLoading] = [turns.of('exportOfMoment'), turns.whileLoading('exportOfMoment')];
    const file = await this.#files.open(name, 'read-only');
    try {
      const total = file.size;
      for (let done = 0; done < total;) {
        const bytes = new Uint8Array(Math.min(PIECE_BYTES, total - done));
        const offset = done;
        file.read(offset, bytes);
        await whileLoading((signal) => sender.send({ offset, bytes }, signal));
        done += Math.min(PIECE_BYTES, total - offset);
        await between({ done, total, what: 'saving' });
      }
      return total;
    } finally {
      file.close();
    }
  }

  /** Resolves with the token of an increment. Wipes the key of its own, whatever happens. */
  async #write(target: ExportTarget, content: ExportContent, turns: JobTurns): Promise<IncrementToken | null> {
    const settings = content.of === 'file' ? undefined : content.encryption;
    const encryption = settings && (await newEncryption(settings, { signal: turns.signal }));
    try {
      await settle(() => checkExport(this.#image, content, encryption));
      // What is left of one before would be in the way, and in a copy of the file.
      await this.removeLeftMoment(turns.aside);
      if (target.takesRoom) await checkExportRoom(this.#image, content, this.#estimateRoom);
      const moment = isOfNow(content) ? await settle(() => takeMoment(this.#image)) : null;
      this.#room.watch();
      try {
        return await this.#copy(target, content, { encryption, moment, turns });
      } catch (error) {
        // To release the moment takes room, too.
        await target.discard().catch(() => undefined);
        throw error;
      } finally {
        if (moment !== null) await this.#release(moment, turns);
        this.#room.unwatch();
      }
    } finally {
      encryption?.dispose();
    }
  }

  async #copy(target: ExportTarget, content: ExportContent, { encryption, moment, turns }: CopyInput) {
    const file = await target.open();
    try {
      const image = this.#image;
      const job: ExportJob = await settle(() => exportJob(image, file, content, { encryption, moment }));
      const kind = moment !== null || isOfSnapshot(content) ? 'exportOfMoment' : 'export';
      const between = this.#room.between(turns.of(kind));
      const whileLoading = this.#room.whileLoading(turns.whileLoading(kind));
      const sendBetween: BetweenSteps = async (progress) => {
        await target.send(whileLoading);
        await between(progress);
      };
      const token = (await carryOut<IncrementToken | void>(job, sendBetween, whileLoading)) ?? null;
      await target.send(whileLoading, true);
      return token;
    } finally {
      file.close();
    }
  }

  async #release(moment: ExportMoment, turns: JobTurns): Promise<void> {
    try {
      moment.view.close();
      await carryOut(await settle(moment.release), turns.aside);
    } catch {
      // The export is what it is without this. An image that takes no change any more tells so to the next request.
    }
  }

  async #removeLast(): Promise<void> {
    if (this.#last === null) return;
    const name = this.#last;
    this.#last = null;
    await this.#files.remove(name);
  }
}

/** Of what is sent of a file at once. Bytes. */
const PIECE_BYTES = 1024 * 1024;

/** Of two parts. */
function inPart(turns: JobTurns, index: number): JobTurns {
  return {
    ...turns,
    of: (kind) => {
      const between = turns.of(kind);
      return (progress) => between(partOf(progress, index, 2));
    },
  };
}

interface CopyInput {
  readonly encryption: NewEncryption | undefined;
  readonly moment: ExportMoment | null;
  readonly turns: JobTurns;
}
