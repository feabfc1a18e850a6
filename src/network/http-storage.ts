/**
 * A base image on a server as a read-only Storage. The base may be shared (`network-base.ts`): closing the storage leaves it open, unless it
 * was made for this storage alone.
 */
import { Qcow2Error } from '../errors.js';
import type { Storage } from '../storage/storage.js';
import { hostFetch } from './http.js';
import type { NetworkBase } from './network-base.js';
import { openNetworkBase, type BaseAddress, type NetworkHost, type OpenBaseOptions } from './open-base.js';

/** @see openHttpStorage */
export type HttpStorageOptions = Partial<NetworkHost> & OpenBaseOptions;

/**
 * Opens an image on a server, in any thread: what is read of it is kept in memory, up to `memoryBytes`, unless `files` says where else.
 * Reads of what is not here throw `NotResident`, so call the engine through `settle`.
 * @throws Qcow2Error as `openNetworkBase`: `NETWORK`, `NOT_FOUND`, `UNSUPPORTED`, ...
 */
export async function openHttpStorage(address: BaseAddress, options: HttpStorageOptions = {}): Promise<HttpStorage> {
  const { pin = null, signal, ...host } = options;
  const base = await openNetworkBase({ fetch: hostFetch, files: null, ...host }, address, { pin, signal });
  return new HttpStorage(base, { ownsBase: true });
}

export class HttpStorage implements Storage {
  readonly readOnly = true;
  readonly size: number;
  readonly base: NetworkBase;
  readonly #ownsBase: boolean;
  #closed = false;

  constructor(base: NetworkBase, options: { readonly ownsBase: boolean }) {
    this.base = base;
    this.size = base.size;
    this.#ownsBase = options.ownsBase;
  }

  read(offset: number, target: Uint8Array): void {
    if (this.#closed) throw new Qcow2Error('CLOSED', `${this.base.url} is closed`);
    this.base.read(offset, target);
  }

  write(): void {
    throw this.#refusal();
  }

  truncate(): void {
    throw this.#refusal();
  }

  flush(): void {}

  close(): void {
    this.#closed = true;
    if (this.#ownsBase) this.base.close();
  }

  #refusal(): Qcow2Error {
    return new Qcow2Error('READ_ONLY', `${this.base.url} can only be read`);
  }
}
