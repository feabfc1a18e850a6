/**
 * The exports of the open disk in the worker: each is written to a temporary file, of the moment it was asked for.
 *
 * - The disk of now is held as a moment where it can be, so that it may be written between the steps; where it can't, writes wait.
 * - A moment is released whatever becomes of the export. Where that fails, the next one, or the next session, sees to it.
 */
import type { Qcow2Image } from '../image/qcow2-image.js';
import { newEncryption, type NewEncryption } from '../image/unlock-image.js';
import type { IncrementToken } from '../operations/bitmaps/export-incremental.js';
import { removeLeftMoment, takeMoment, type ExportMoment } from '../operations/snapshots/export-moment.js';
import { settle } from '../storage/not-resident.js';
import { checkExport, exportJob, isOfNow, isOfSnapshot, type ExportJob } from './export-job.js';
import type { ImageFiles } from './image-files.js';
import { carryOut, type BetweenSteps, type JobTurns } from './job.js';
import type { ExportContent, ExportedFile, ExportRequest } from './protocol.js';

export class ExportSession {
  readonly #files: ImageFiles;
  readonly #image: Qcow2Image;
  #last: string | null = null;
  /** Exported files that stay until they are dropped, by their locks. */
  readonly #kept = new Map<string, string>();

  constructor(files: ImageFiles, image: Qcow2Image) {
    this.#files = files;
    this.#image = image;
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
      const moment = isOfNow(content) ? await settle(() => takeMoment(this.#image)) : null;
      try {
        return await this.#copy(name, content, { encryption, moment, turns });
      } finally {
        if (moment !== null) await this.#release(moment, turns);
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
      const token = await carryOut<IncrementToken | void>(job, turns.of(kind), turns.whileLoading(kind));
      return token ?? null;
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
