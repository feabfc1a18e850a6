/**
 * Guest data: the content of data clusters, apart from where it lies. Plain in most images; an encrypted image has another
 * implementation (`crypto/encrypted-data.ts`). Metadata and compressed clusters never go through it.
 *
 * Each range lies within one run of clusters, so host and guest offset go on together.
 */
import type { GuestOffset, HostOffset } from '../disk.js';
import type { Storage } from './storage.js';

export interface GuestData {
  /** Whether a place in the file that is zero does not read as zeroes. */
  readonly encrypted: boolean;
  /** Whether the same bytes at another guest offset would read as something else. */
  readonly boundToGuestOffset: boolean;
  /** Throws if nothing can be read or written, for want of a key. For who would change something else before it writes. */
  checkKey(): void;
  read(host: HostOffset, target: Uint8Array, guest: GuestOffset): void;
  /** `source` stays as it is. */
  write(host: HostOffset, source: Uint8Array, guest: GuestOffset): void;
}

/** Guest data as it lies in `storage`. */
export function plainData(storage: Storage): GuestData {
  return {
    encrypted: false,
    boundToGuestOffset: false,
    checkKey: () => {},
    read: (host, target) => {
      storage.announce?.('read_aio');
      storage.read(host, target);
    },
    write: (host, source) => {
      storage.announce?.('write_aio');
      storage.write(host, source);
    },
  };
}
