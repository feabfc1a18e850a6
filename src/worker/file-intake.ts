/**
 * A file on its way into the folder: begun, appended to, and at last put in place in one step, or abandoned.
 *
 * Invariant: until `commit` has returned, the file that had the name is as it was.
 */
import type { NetworkHost } from '../network/open-base.js';
import type { Claim, ImageFiles } from './image-files.js';
import { PlainSink, RawImageSink, type IntakeSink } from './intake-sinks.js';
import type { BetweenSteps } from './job.js';
import type { Bytes, StoreBeginRequest, StoreCommitRequest } from './protocol.js';
import type { DiskInfo } from './remote-disk.js';
import { verifyImage } from './verify-image.js';

interface IntakeParts {
  readonly name: string;
  readonly claim: Claim;
  readonly temporary: string;
  readonly sink: IntakeSink;
}

/** How an intake ends well. */
export interface CommitTools {
  readonly network: NetworkHost | undefined;
  readonly between: BetweenSteps;
}

export class FileIntake {
  readonly #files: ImageFiles;
  readonly #parts: IntakeParts;

  private constructor(files: ImageFiles, parts: IntakeParts) {
    this.#files = files;
    this.#parts = parts;
  }

  /** @throws Qcow2Error `IN_USE` when somebody has the file of that name open. */
  static async begin(files: ImageFiles, { name, convert }: StoreBeginRequest): Promise<FileIntake> {
    const claim = await files.claim(name, 'write');
    try {
      const temporary = (await files.createTemporary()).name;
      const storage = await files.open(temporary, 'read-write');
      const sink = convert === 'raw' ? new RawImageSink(storage) : new PlainSink(storage);
      return new FileIntake(files, { name, claim, temporary, sink });
    } catch (error) {
      claim.release();
      throw error;
    }
  }

  append(bytes: Bytes): void {
    this.#parts.sink.append(bytes);
  }

  /** Ends the intake, also when it fails. */
  async commit(image: StoreCommitRequest['image'], { network, between }: CommitTools): Promise<DiskInfo | null> {
    const { name, claim, temporary, sink } = this.#parts;
    try {
      sink.finish();
      const files = this.#files;
      const candidate = image && { files, name, temporary, allowed: image, network };
      const info = candidate && (await verifyImage(candidate, between));
      await files.replace(temporary, name);
      claim.release();
      return info;
    } catch (error) {
      await this.abandon();
      throw error;
    }
  }

  async abandon(): Promise<void> {
    const { claim, temporary, sink } = this.#parts;
    try {
      sink.abandon();
      await this.#files.remove(temporary);
    } finally {
      claim.release();
    }
  }
}
