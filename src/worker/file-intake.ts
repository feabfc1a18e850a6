/**
 * A file on its way into the folder: begun, appended to, and at last put in place in one step, or abandoned.
 *
 * Invariant: until `commit` has returned, the file that had the name is as it was.
 */
import { Qcow2Error } from '../errors.js';
import type { Storage } from '../storage/storage.js';
import { inspectImage } from './disk-file.js';
import type { Claim, ImageFiles } from './image-files.js';
import type { Bytes, StoreCommitRequest } from './protocol.js';
import type { DiskInfo } from './remote-disk.js';

export class FileIntake {
  readonly #files: ImageFiles;
  readonly #name: string;
  readonly #claim: Claim;
  readonly #temporary: string;
  readonly #storage: Storage;

  private constructor(files: ImageFiles, target: { name: string; claim: Claim; temporary: string; storage: Storage }) {
    this.#files = files;
    this.#name = target.name;
    this.#claim = target.claim;
    this.#temporary = target.temporary;
    this.#storage = target.storage;
  }

  /** @throws Qcow2Error `IN_USE` when somebody has the file of that name open. */
  static async begin(files: ImageFiles, name: string): Promise<FileIntake> {
    const claim = await files.claim(name, 'write');
    try {
      const temporary = (await files.createTemporary()).name;
      return new FileIntake(files, { name, claim, temporary, storage: await files.open(temporary, 'read-write') });
    } catch (error) {
      claim.release();
      throw error;
    }
  }

  append(bytes: Bytes): void {
    this.#storage.write(this.#storage.size, bytes);
  }

  /** Ends the intake, also when it fails. */
  async commit(image: StoreCommitRequest['image']): Promise<DiskInfo | null> {
    try {
      this.#storage.flush();
      this.#storage.close();
      const info = image === null ? null : await this.#inspect(image.backing);
      await this.#files.replace(this.#temporary, this.#name);
      this.#claim.release();
      return info;
    } catch (error) {
      await this.abandon();
      throw error;
    }
  }

  async abandon(): Promise<void> {
    try {
      this.#storage.close();
      await this.#files.remove(this.#temporary);
    } finally {
      this.#claim.release();
    }
  }

  /** Opened to be written, as a disk is: an image that could only be read must not replace one that can be used. */
  async #inspect(backing: readonly string[]): Promise<DiskInfo> {
    if (backing.includes(this.#name)) {
      throw new Qcow2Error('BAD_ARGUMENT', `"${this.#name}" can't be its own backing file`);
    }
    const storage = await this.#files.open(this.#temporary, 'read-write');
    return inspectImage(this.#files, storage, { name: this.#name, backing });
  }
}
