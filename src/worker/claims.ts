/**
 * What one disk holds: a claim on its file and on each file below it, and the base images on servers that it stands on. And the gate: of all
 * that an image names, only what the caller has listed is opened.
 */
import { Qcow2Error, isQcow2Error } from '../errors.js';
import type { BackingOpener, BackingReference } from '../image/open.js';
import type { Storage } from '../storage/storage.js';
import type { Claim, ClaimMode, ImageFiles } from './image-files.js';
import type { NetworkBases } from './network-bases.js';

export interface Allowed {
  /** Files of the same folder. */
  readonly backing: readonly string[];
  readonly bases: NetworkBases;
  readonly signal?: AbortSignal | undefined;
}

export class Claims {
  readonly #files: ImageFiles;
  readonly #held = new Map<string, Claim>();

  constructor(files: ImageFiles) {
    this.#files = files;
  }

  async add(name: string, mode: ClaimMode): Promise<void> {
    this.#held.set(name, await this.#files.claim(name, mode));
  }

  /** Opens the backing and data files that are allowed, each once in a chain. */
  opener({ backing, bases, signal }: Allowed): (reference: BackingReference) => Promise<Storage> {
    const open = async (reference: BackingReference): Promise<Storage> => {
      const { name, writable } = reference;
      const what = reference.role === 'data' ? 'external data file' : 'backing file';
      if (bases.allows(name) && reference.role === 'backing') return bases.open(name, signal);
      if (!backing.includes(name)) {
        throw new Qcow2Error('BACKING', `the image names the ${what} "${name}", which was not allowed to be opened`);
      }
      if (this.#held.has(name)) {
        throw new Qcow2Error('BACKING', `the ${what} "${name}" occurs twice in one chain of files`);
      }
      try {
        await this.add(name, writable ? 'write' : 'read');
        return await this.#files.open(name, writable ? 'read-write' : 'read-only');
      } catch (error) {
        if (!isQcow2Error(error, 'NOT_FOUND')) throw error;
        throw new Qcow2Error('BACKING', `the ${what} ${this.#files.path(name)} does not exist`, { cause: error });
      }
    };
    return open satisfies BackingOpener;
  }

  release(): void {
    for (const claim of this.#held.values()) claim.release();
    this.#held.clear();
  }
}
