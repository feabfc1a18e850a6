/**
 * The exports of the open disk in the worker, of the moment they were asked for: to a temporary file, or wherever else (`save-session.ts`).
 *
 * - The disk of now is held as a moment where it can be, so that it may be written between the steps; where it can't, writes wait.
 * - The disk comes first where room is short (`export-room.ts`): the export is given up, and its file removed before its moment is released.
 * - A moment is released whatever becomes of the export. Where that fails, the next one, or the next session, sees to it.
 */
import type { Qcow2Image } from '../image/qcow2-image.js';
import { newEncryption, type NewEncryption } from '../image/unlock-image.js';
import type { IncrementToken } from '../operations/bitmaps/export-incremental.js';
import type { EstimateRoom } from '../network/make-offline.js';
import { removeLeftMoment, takeMoment, type ExportMoment } from '../operations/snapshots/export-moment.js';
import { settle } from '../storage/not-resident.js';
import type { Progress } from '../util/progress.js';
import { checkExport, exportJob, isOfNow, isOfSnapshot, type ExportJob } from './export-job.js';
import { checkExportRoom, ExportRoom } from './export-room.js';
import { TemporaryTarget, type ExportTarget } from './export-target.js';
import type { ImageFiles } from './image-files.js';
import { carryOut, type BetweenSteps, type JobTurns } from './job.js';
import type { ExportContent, ExportedFile, ExportRequest, Request } from './protocol.js';

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
      const written = await this.write(new TemporaryTarget(this.#files, name), content, turns);
      return { blob: await this.#files.blob(name), lock, token: written?.token ?? null };
    } catch (error) {
      await this.#removeLast();
      throw error;
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

  /**
   * Writes what is asked for to `target`, which is closed then. Null, and nothing written, where the disk would have to stand still for a target
   * that may take its time. Wipes the key of an encryption of its own, whatever happens.
   */
  async write(target: ExportTarget, content: ExportContent, turns: JobTurns): Promise<Written | null> {
    const settings = content.of === 'file' ? undefined : content.encryption;
    const encryption = settings && (await newEncryption(settings, { signal: turns.signal }));
    try {
      await settle(() => checkExport(this.#image, content, encryption));
      // What is left of one before would be in the way, and in a copy of the file.
      await this.removeLeftMoment(turns.aside);
      if (target.takesRoom) await checkExportRoom(this.#image, content, this.#estimateRoom);
      const moment = isOfNow(content) ? await settle(() => takeMoment(this.#image)) : null;
      const isHeld = moment !== null || isOfSnapshot(content);
      if (!isHeld && target.takesItsTime) return null;
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

  async #copy(target: ExportTarget, content: ExportContent, input: CopyInput): Promise<Written> {
    const { encryption, moment, turns } = input;
    const file = await target.open();
    try {
      const image = this.#image;
      const job: ExportJob = await settle(() => exportJob(image, file, content, { encryption, moment }));
      const kind = moment !== null || isOfSnapshot(content) ? 'exportOfMoment' : 'export';
      const between = this.#room.between(turns.of(kind));
      const whileLoading = this.#room.whileLoading(turns.whileLoading(kind));
      // The last step is told of when all of it has arrived.
      let last: Progress | null = null;
      const sendBetween: BetweenSteps = async (progress) => {
        await target.send(whileLoading);
        last = progress.done >= progress.total ? progress : null;
        if (last === null) await between(progress);
      };
      const token = (await carryOut<IncrementToken | void>(job, sendBetween, whileLoading)) ?? null;
      await target.send(whileLoading, true);
      if (last !== null) await between(last);
      return { token };
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

export interface Written {
  /** Of an increment. */
  readonly token: IncrementToken | null;
}

interface CopyInput {
  readonly encryption: NewEncryption | undefined;
  readonly moment: ExportMoment | null;
  readonly turns: JobTurns;
}
