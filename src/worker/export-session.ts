/**
 * The exports of the open disk in the worker: each is written to a temporary file, of the moment it was asked for.
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
import { checkExport, exportJob, isOfNow, isOfSnapshot, type ExportJob } from './export-job.js';
import { checkExportRoom, ExportRoom } from './export-room.js';
import type { ImageFiles } from './image-files.js';
import { carryOut, type BetweenSteps, type JobTurns } from './job.js';
import type { ExportContent, ExportedFile, ExportRequest, Request } from './protocol.js';

export class ExportSession {
  readonly #files: ImageFiles;
  readonly #image: Qcow2Image;
  readonly #estimateRoom: EstimateRoom | null;
  readonly #room: ExportRoom;
  #last: string | null = null;
  /** Exported files that stay until they are dropped, by their locks. */
  readonly #kept = new Map<string, string>();

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

  /** The file replaces that of the export before and stays until nobody holds its lock, or else until it is dropped. */
  async export({ content, untilDropped = false }: ExportRequest, turns: JobTurns): Promise<ExportedFile> {
    if (!untilDropped) await this.#removeLast();
    const { name, lock } = await this.#files.createTemporary();
    if (untilDropped) this.#kept.set(lock, name);
    else this.#last = name;
    try {
      const token = await this.#write(name, content, turns);
      return { blob: await this.#files.blob(name), lock, token };
    } catch (error) {
      await (untilDropped ? this.drop(lock) : this.#removeLast());
      throw error;
    }
  }

  /** Does nothing where there is no such export. */
  async drop(lock: string): Promise<void> {
    const name = this.#kept.get(lock);
    if (name === undefined) return;
    this.#kept.delete(lock);
    await this.#files.remove(name);
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

  /** Resolves with the token of an increment. Wipes the key of its own, whatever happens. */
  async #write(name: string, content: ExportContent, turns: JobTurns): Promise<IncrementToken | null> {
    const settings = content.of === 'file' ? undefined : content.encryption;
    const encryption = settings && (await newEncryption(settings, { signal: turns.signal }));
    try {
      await settle(() => checkExport(this.#image, content, encryption));
      // What is left of one before would be in the way, and in a copy of the file.
      await this.removeLeftMoment(turns.aside);
      await checkExportRoom(this.#image, content, this.#estimateRoom);
      const moment = isOfNow(content) ? await settle(() => takeMoment(this.#image)) : null;
      this.#room.watch();
      try {
        return await this.#copy(name, content, { encryption, moment, turns });
      } catch (error) {
        // To release the moment takes room, too.
        await this.#files.remove(name).catch(() => undefined);
        throw error;
      } finally {
        if (moment !== null) await this.#release(moment, turns);
        this.#room.unwatch();
      }
    } finally {
      encryption?.dispose();
    }
  }

  async #copy(name: string, content: ExportContent, { encryption, moment, turns }: CopyInput) {
    const file = await this.#files.open(name, 'read-write');
    try {
      const image = this.#image;
      const job: ExportJob = await settle(() => exportJob(image, file, content, { encryption, moment }));
      const kind = moment !== null || isOfSnapshot(content) ? 'exportOfMoment' : 'export';
      const between = this.#room.between(turns.of(kind));
      const whileLoading = this.#room.whileLoading(turns.whileLoading(kind));
      return (await carryOut<IncrementToken | void>(job, between, whileLoading)) ?? null;
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

interface CopyInput {
  readonly encryption: NewEncryption | undefined;
  readonly moment: ExportMoment | null;
  readonly turns: JobTurns;
}
