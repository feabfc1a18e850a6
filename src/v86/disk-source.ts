/**
 * The two places a disk can be, behind one face: in this thread (`Disk`, answers at once unless something remote is
 * missing) or in a worker (`RemoteDisk`, always a promise). What calls it keeps the order; here is no queue.
 */
import type { Disk } from '../disk.js';
import { NotResident, settle } from '../storage/not-resident.js';
import type { RemoteDisk } from '../worker/remote-disk.js';
import type { Answer } from './request-queue.js';

export interface DiskSource {
  /** Bytes. */
  readonly size: number;
  readonly readOnly: boolean;
  read(offset: number, length: number): Answer<Uint8Array>;
  /** Takes `data` over: it owns all of its buffer and is not touched by the caller again. */
  write(offset: number, data: Uint8Array<ArrayBuffer>): Answer<void>;
  flush(): Answer<void>;
}

/** Runs `operation` now; only where it faults does the answer become a promise. */
function settleLater<T>(operation: () => T): Answer<T> {
  try {
    return operation();
  } catch (error) {
    if (!(error instanceof NotResident)) throw error;
    return error.load().then(() => settle(operation));
  }
}

export function localSource(disk: Disk): DiskSource {
  return {
    size: disk.size,
    readOnly: disk.readOnly,
    read: (offset, length) =>
      settleLater(() => {
        const target = new Uint8Array(length);
        disk.read(offset, target);
        return target;
      }),
    write: (offset, data) => settleLater(() => disk.write(offset, data)),
    flush: () => settleLater(() => disk.flush()),
  };
}

export function remoteSource(remote: RemoteDisk): DiskSource {
  return {
    size: remote.info.size,
    readOnly: remote.info.readOnly,
    read: (offset, length) => remote.read(offset, length),
    write: (offset, data) => remote.write(offset, data),
    flush: () => remote.flush(),
  };
}
