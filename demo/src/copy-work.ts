/**
 * Copies of the disk that is there, each in its turn: downloads, the backups of a series, a second disk. Each is of the disk that was there when
 * it was asked for, or else refused with `IN_USE`.
 */
import type { OpfsDisk, SaveTarget } from 'qcow2-wasm/opfs';
import { exportNext } from './backup-series.js';
import { duplicateClosedDisk, jobOptions, keepCopy, type CopyOptions, type StoreFile } from './disk-copies.js';
import { exportOptions, type DiskExport } from './disk-export.js';
import { requireFree } from './disk-shelf.js';
import type { DiskTurns } from './disk-turns.js';
import type { GuestLife } from './guest-life.js';

export interface IncrementDownload extends CopyOptions {
  /** Resolves when it is where it is to be. */
  readonly deliver: (increment: Blob) => Promise<void>;
}

export class CopyWork {
  constructor(
    private readonly life: GuestLife,
    private readonly turns: DiskTurns,
  ) {}

  /** The disk as a qcow2, as it is now. The guest runs on. */
  export(options: DiskExport = {}): Promise<Blob> {
    return this.turns.ofThis(async () => (await this.#flushed()).exportImage(exportOptions(options)));
  }

  /** The same, into `target`. One that is a file is as it was if it fails. */
  save(target: SaveTarget, options: DiskExport = {}): Promise<void> {
    return this.turns.ofThis(async () => (await this.#flushed()).saveTo(target, exportOptions(options)));
  }

  /**
   * The next of a series of backups. The guest stands still while it is put together, and goes on while it is delivered; the next export waits
   * until it is, because it takes away the file of this one.
   */
  continueBackups(fileName: string, { deliver, ...options }: IncrementDownload): Promise<void> {
    return this.turns.ofThis(async () => {
      const { machine, disk } = this.life.running();
      const increment = await machine.whileStopped(async () => {
        await machine.attachment.flush();
        return exportNext(disk, this.life.diskName, jobOptions(options));
      });
      await deliver(increment.blob);
      await increment.arrived(fileName);
    });
  }

  async #flushed(): Promise<OpfsDisk> {
    const { machine, disk } = this.life.running();
    await machine.attachment.flush();
    return disk;
  }

  /**
   * A copy of a disk under a new name, with all that is in it. Of the one that runs the guest stands still while its file is copied, and
   * goes on while the copy is put in its place.
   */
  async duplicate(name: string, newName: string, options: CopyOptions = {}): Promise<void> {
    if (name !== this.life.diskName || this.life.disk === null) return duplicateClosedDisk(name, newName, options);
    const inItsTurn = this.turns.bind();
    const { onProgress, signal } = options;
    await requireFree(newName);
    // An image on its way in goes first. The copy is stored in the same turn, because the next export takes away the file of this one.
    const bring = (store: StoreFile): Promise<void> =>
      inItsTurn(async () => {
        const file = await this.#fileOfDisk({ signal, onProgress: (part) => onProgress?.(part / 2) });
        await store(file, { signal, onProgress: (part) => onProgress?.((1 + part) / 2) });
      });
    await keepCopy(newName, bring, signal);
  }

  async #fileOfDisk(options: CopyOptions): Promise<Blob> {
    const { machine, disk } = this.life.running();
    return machine.whileStopped(async () => {
      await machine.attachment.flush();
      return disk.exportFile(jobOptions(options));
    });
  }
}
