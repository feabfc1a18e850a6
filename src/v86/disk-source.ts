/**
 * The two places a disk can be, behind one face: in this thread (`Disk`, answers at once unless something remote is
 * missing) or in a worker (`RemoteDisk`, always a promise). What calls it keeps the order; here is no queue.
 */
import type { Disk } from '../disk.js';
import { NotResident, settle } from '../storage/not-resident.js';
import type { RemoteDisk, RemoteSnapshots } from '../worker/remote-disk.js';
import type { Answer } from './request-queue.js';

export interface DiskSource {
  /** Bytes. */
  readonly size: number;
  readonly readOnly: boolean;
  /** @param signal ends waiting for what is on a server; it fails with `ABORTED` then. */
  read(offset: number, length: number, signal?: AbortSignal): Answer<Uint8Array>;
  /** Takes `data` over: it owns all of its buffer and is not touched by the caller again. @param signal as of `read`. */
  write(offset: number, data: Uint8Array<ArrayBuffer>, signal?: AbortSignal): Answer<void>;
  flush(): Answer<void>;
  /** The snapshots inside the image, or null: it can have none, or nobody said how to reach them. */
  readonly snapshots: RemoteSnapshots | null;
  /** Of the image, in bytes. */
  readonly clusterSize: number;
  /** As the image names it; null: none, or not known. */
  readonly backingFile: string | null;
}

/** A snapshot as the image lists it, with what it costs. */
export type SnapshotUsage = Awaited<ReturnType<RemoteSnapshots['list']>>[number];

/** A disk in this thread, with what an image tells besides. */
export interface LocalDisk extends Disk {
  readonly clusterSize?: number;
  readonly header?: { readonly backingFile: { readonly name: string } | null };
}

const USUAL_CLUSTER_BYTES = 65536;

/** Runs `operation` now; only where it faults does the answer become a promise. */
function settleLater<T>(operation: () => T, signal?: AbortSignal): Answer<T> {
  try {
    return operation();
  } catch (error) {
    if (!(error instanceof NotResident)) throw error;
    return error.load(signal).then(() => settle(operation, signal));
  }
}

/** @param snapshots those of the image that `disk` is, if it is one. */
export function localSource(disk: LocalDisk, snapshots: RemoteSnapshots | null = null): DiskSource {
  return {
    size: disk.size,
    readOnly: disk.readOnly,
    read: (offset, length, signal) =>
      settleLater(() => {
        const target = new Uint8Array(length);
        disk.read(offset, target);
        return target;
      }, signal),
    write: (offset, data, signal) => settleLater(() => disk.write(offset, data), signal),
    flush: () => settleLater(() => disk.flush()),
    snapshots,
    clusterSize: disk.clusterSize ?? USUAL_CLUSTER_BYTES,
    backingFile: disk.header?.backingFile?.name ?? null,
  };
}

export function remoteSource(remote: RemoteDisk): DiskSource {
  return {
    size: remote.info.size,
    readOnly: remote.info.readOnly,
    read: (offset, length, signal) => remote.read(offset, length, { signal }),
    write: (offset, data, signal) => remote.write(offset, data, { signal }),
    flush: () => remote.flush(),
    snapshots: remote.snapshots,
    clusterSize: remote.info.clusterSize,
    backingFile: remote.info.backingFile,
  };
}
