/**
 * A disk held by another thread, as its user sees it. The worker client (`client.ts`) implements it; the v86 disk object
 * uses it. Requests are carried out in the order they were made, so a read never passes an earlier write.
 */
import type { GuestOffset } from '../disk.js';
import type { CipherSpec } from '../crypto/luks-cipher.js';
import type { EncryptionFormat } from '../image/image-encryption.js';
import type {
  NewSnapshot,
  SnapshotInfo,
  SnapshotUsage,
  VmStateOptions,
  VmStateWritten,
} from '../operations/snapshots/snapshot-info.js';

export interface DiskInfo {
  /** Bytes. */
  readonly size: number;
  readonly readOnly: boolean;
  /** Where the disk lives: the OPFS path of its file. */
  readonly path: string;
  readonly version: 2 | 3;
  readonly clusterSize: number;
  readonly refcountBits: number;
  readonly lazyRefcounts: boolean;
  readonly encryption: EncryptionFormat | null;
  /** What its data are encrypted with; null where they are not, or while nothing has unlocked it. */
  readonly cipher: CipherSpec | null;
  /** The backing file's name as the image records it, or null. */
  readonly backingFile: string | null;
}

/** Counters since the disk was opened. All but the times in bytes or counts. */
export interface DiskStats {
  readonly reads: number;
  readonly readBytes: number;
  readonly writes: number;
  readonly writtenBytes: number;
  readonly flushes: number;
  /** Bytes of the image file now. */
  readonly fileSize: number;
  /** L2 and refcount table slices: looked up and found, looked up and loaded. */
  readonly cacheHits: number;
  readonly cacheMisses: number;
}

/**
 * The internal snapshots of a disk that another thread holds. Requests keep their order among each other and with those of
 * the disk. Snapshots are named by id.
 */
export interface RemoteSnapshots {
  /** In the order of the file: oldest first. */
  list(): Promise<SnapshotUsage[]>;
  /** The disk as it is now, with the VM state written before. Stable when it resolves. */
  create(snapshot: NewSnapshot): Promise<SnapshotInfo>;
  /** The disk becomes what it was then; stable when it resolves. The VM state stays the snapshot's alone. */
  goto(id: string): Promise<SnapshotInfo>;
  /** Gone, and its room free, when it resolves. */
  delete(id: string): Promise<void>;
  /** A fresh array of `length` bytes of the snapshot's VM state; zeroes where nothing was written. */
  readVmState(id: string, offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Takes `source` over, as `RemoteDisk.write` does. Whole clusters, but at the end of the state. */
  writeVmState(offset: number, source: Uint8Array<ArrayBuffer>, options: VmStateOptions): Promise<VmStateWritten>;
  /** Forgets the VM state that was written and belongs to no snapshot yet. */
  discardVmState(): Promise<void>;
}

export interface WaitOptions {
  /** Ends waiting for a server, and what has not begun: it rejects with `ABORTED` then, and nothing has been changed. */
  readonly signal?: AbortSignal | undefined;
}

export interface RemoteDisk {
  /** As it is now: `snapshots.goto` may change the size. */
  readonly info: DiskInfo;
  readonly snapshots: RemoteSnapshots;
  /** Resolves with a fresh array of `length` bytes; its buffer was transferred. */
  read(offset: GuestOffset, length: number, options?: WaitOptions): Promise<Uint8Array<ArrayBuffer>>;
  /** Takes `source` over: its buffer is transferred and detached, so pass an array that owns all of its buffer. */
  write(offset: GuestOffset, source: Uint8Array<ArrayBuffer>, options?: WaitOptions): Promise<void>;
  writeZeroes(offset: GuestOffset, length: number, options?: WaitOptions): Promise<void>;
  discard(offset: GuestOffset, length: number, options?: WaitOptions): Promise<void>;
  flush(): Promise<void>;
  stats(): Promise<DiskStats>;
  close(): Promise<void>;
}
