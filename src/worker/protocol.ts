/**
 * What the page and the worker say to each other: types only.
 *
 *   page                                          worker
 *                    <-------------------------   { ready }            once
 *   { id, request }  ------------------------->   carried out in the order of arrival, one at a time
 *   { cancel: id }   ------------------------->   looked at when it arrives
 *                    <-------------------------   { id, progress }     any number
 *                    <-------------------------   { id, value } or { id, error }, exactly one
 *
 * Some requests are jobs of many steps. Between two of these, requests that came after them are answered where no answer can tell of the
 * detour (`passing.ts`): while a snapshot is deleted, or the disk of a moment exported, all requests on the disk itself, writes too. The first
 * request that must wait holds back all that come after it, but for a job: that lets the same pass as when it runs.
 *
 * Requests that change passphrases (`addPassphrase`, `changePassphrase`, `erasePassphrase`) hold nothing back: they derive keys, for
 * seconds, while those that come after them are answered. Among themselves they keep their order. So does `fetchBases`, which may take
 * minutes. A `read`, or what writes, that is cancelled waits for no server any more.
 *
 * A `save` is made in its turn; where it has to be sent afterwards, that holds nothing back.
 *
 * Bytes travel in arrays that own all of their buffer; the buffer is transferred, in both directions.
 */
import type { BitmapUsage } from '../operations/bitmaps/bitmaps.js';
import type { IncrementToken } from '../operations/bitmaps/export-incremental.js';
import type { NewBitmap } from '../operations/bitmaps/new-bitmap.js';
import type { ErrorCode } from '../errors.js';
import type { CreateOptions } from '../image/create.js';
import type { RequiredEncryption } from '../image/image-encryption.js';
import type { EncryptionSettings } from '../image/unlock-image.js';
import type { RuntimeOptions } from '../image/runtime-options.js';
import type {
  NewSnapshot,
  SnapshotInfo,
  SnapshotUsage,
  VmStateOptions,
  VmStateWritten,
} from '../operations/snapshots/snapshot-info.js';
import type { BootProfile } from '../network/boot-profile.js';
import type { BaseStatus } from '../network/network-base.js';
import type { StoredBase } from '../network/stored-bases.js';
import type { Progress } from '../util/progress.js';
import type { ExportContent, SavedContent } from './export-content.js';
import type { AllowedBase } from './network-bases.js';
import type { DiskInfo, DiskStats } from './remote-disk.js';

export type { ExportContent };
export type Bytes = Uint8Array<ArrayBuffer>;

/** A file by its folder in OPFS (`a/b`, made when missing) and its name there. */
export interface FileAddress {
  readonly directory: string;
  readonly name: string;
}

type WithoutPassphrase<Settings> = Settings extends EncryptionSettings ? Omit<Settings, 'passphrase'> : never;

/**
 * As `createImage` takes it; the size may be left out when there is a backing file to take it from. `encryption` is by the
 * passphrase that the disk is opened with; a disk that is there already must be encrypted in that format, or it is refused.
 */
export type NewDisk = Omit<CreateOptions, 'size' | 'dataFile' | 'encryption'> & {
  readonly size?: number;
  readonly encryption?: WithoutPassphrase<EncryptionSettings>;
};

/** What deriving keys may be given. */
export interface DerivationLimit {
  /** HMACs that trying a passphrase on all key slots may take. Default: as in `UnlockOptions`. */
  readonly maxDerivationWork?: number;
}

/** Opens the one disk of this worker. Cancelled, it ends between two derivations of keys. */
export interface OpenRequest extends FileAddress, RuntimeOptions, DerivationLimit {
  readonly kind: 'open';
  /** Creates the file if it does not exist. */
  readonly create?: NewDisk;
  readonly readOnly: boolean;
  /** Opens the disk, and what lies below it, where that is encrypted. A plain disk opens all the same. */
  readonly passphrase?: string;
  /** Refuses a disk that is not encrypted, or not in this format. */
  readonly requireEncryption?: RequiredEncryption;
  /** Those of backing files that have another one, by their names. */
  readonly backingPassphrases?: Readonly<Record<string, string>>;
  /** Names, in the same folder, that the image and its backing files may name as their backing file. */
  readonly backing: readonly string[];
  /** Base images on servers that they may name. */
  readonly bases?: readonly AllowedBase[];
  /** Makes the disk in memory, and never touches the folder. */
  readonly throwAway?: boolean;
}

export interface ReadRequest {
  readonly kind: 'read';
  readonly offset: number;
  readonly length: number;
}

/** What is known of the base images on servers. */
export interface BasesRequest {
  readonly kind: 'bases';
}

/** Fetches all of them. Cancelled, it can be made again and goes on where it was. */
export interface FetchBasesRequest {
  readonly kind: 'fetchBases';
}

/** What the guest has read of a base image since the disk was opened; of the only one unless named. */
export interface BootProfileRequest {
  readonly kind: 'bootProfile';
  readonly base?: string;
}

/** All versions of base images that the origin keeps. */
export interface ListBasesRequest {
  readonly kind: 'listBases';
}

/** Deletes what is kept of one version. */
export interface RemoveBaseRequest extends Pick<StoredBase, 'url' | 'identity'> {
  readonly kind: 'removeBase';
}

export interface WriteRequest {
  readonly kind: 'write';
  readonly offset: number;
  readonly bytes: Bytes;
}

export interface WriteZeroesRequest {
  readonly kind: 'writeZeroes';
  readonly offset: number;
  readonly length: number;
}

export interface DiscardRequest {
  readonly kind: 'discard';
  readonly offset: number;
  readonly length: number;
}

export interface FlushRequest {
  readonly kind: 'flush';
}

export interface StatsRequest {
  readonly kind: 'stats';
}

/** Writes a temporary file, and answers with it. */
export interface ExportRequest {
  readonly kind: 'export';
  readonly content: ExportContent;
}

/** Makes an export, and sends it to the page piece by piece (`piece-pipe.ts`). What is sent when it is made holds nothing back. */
export interface SaveRequest {
  readonly kind: 'save';
  readonly content: SavedContent;
  /** Whether the page can only write the pieces in the order of the file. */
  readonly inOrder: boolean;
  readonly port: MessagePort;
}

export interface ListSnapshotsRequest {
  readonly kind: 'listSnapshots';
}

export interface CreateSnapshotRequest {
  readonly kind: 'createSnapshot';
  readonly snapshot: NewSnapshot;
}

export interface GotoSnapshotRequest {
  readonly kind: 'gotoSnapshot';
  readonly id: string;
}

export interface DeleteSnapshotRequest {
  readonly kind: 'deleteSnapshot';
  readonly id: string;
}

/** Of the VM state of a snapshot. */
export interface ReadVmStateRequest {
  readonly kind: 'readVmState';
  readonly id: string;
  readonly offset: number;
  readonly length: number;
}

/** Of the VM state that belongs to no snapshot yet. */
export interface WriteVmStateRequest {
  readonly kind: 'writeVmState';
  readonly offset: number;
  readonly bytes: Bytes;
  readonly options: VmStateOptions;
}

export interface DiscardVmStateRequest {
  readonly kind: 'discardVmState';
}

export interface ListBitmapsRequest {
  readonly kind: 'listBitmaps';
}

/**
 * `confirm`: the increment of that token has arrived. `store`: what has changed is written down, as it is when the disk is
 * closed.
 */
export type BitmapChange =
  | { readonly do: 'add'; readonly bitmap: NewBitmap }
  | { readonly do: 'remove' | 'clear' | 'enable' | 'disable'; readonly name: string }
  | { readonly do: 'confirm'; readonly name: string; readonly token: IncrementToken }
  | { readonly do: 'merge'; readonly name: string; readonly source: string }
  | { readonly do: 'store' };

export interface ChangeBitmapsRequest {
  readonly kind: 'changeBitmaps';
  readonly change: BitmapChange;
}

/** Adds a passphrase to an encrypted disk. Answered with its key slot. */
export interface AddPassphraseRequest extends NewPassphrase {
  readonly kind: 'addPassphrase';
}

/** Puts a passphrase in place of another. Answered with its key slot. */
export interface ChangePassphraseRequest extends NewPassphrase {
  readonly kind: 'changePassphrase';
}

/** Erases all key slots that a passphrase opens, but never the last one. */
export interface ErasePassphraseRequest extends DerivationLimit {
  readonly kind: 'erasePassphrase';
  readonly passphrase: string;
}

export interface NewPassphrase extends DerivationLimit {
  /** One that opens the disk now. */
  readonly passphrase: string;
  readonly newPassphrase: string;
  /** Milliseconds that opening with it is to take. Default 2000. */
  readonly iterTime?: number;
}

/** Flushes and closes the disk, and lets go of its locks. */
export interface CloseRequest {
  readonly kind: 'close';
}

/** What an image may name as its backing file: files of the same folder, and base images on servers. */
export interface AllowedFiles {
  readonly backing: readonly string[];
  readonly bases?: readonly AllowedBase[];
}

/** Opens a blob as a qcow2 without storing it. */
export interface InspectRequest extends AllowedFiles {
  readonly kind: 'inspect';
  readonly directory: string;
  readonly blob: Blob;
}

/** Starts to take a file in, under a temporary name. The target is claimed until `storeCommit` or `storeAbandon`. */
export interface StoreBeginRequest extends FileAddress {
  readonly kind: 'storeBegin';
  /** What arrives is a raw image, and is stored as a qcow2. */
  readonly convert?: 'raw';
}

export interface StoreAppendRequest {
  readonly kind: 'storeAppend';
  readonly bytes: Bytes;
}

/** Puts the file in place of the one of that name, in one step. `image`: only if it opens as a qcow2, and a check finds it sound. */
export interface StoreCommitRequest {
  readonly kind: 'storeCommit';
  readonly image: AllowedFiles | null;
}

export interface StoreAbandonRequest {
  readonly kind: 'storeAbandon';
}

export interface DeleteRequest extends FileAddress {
  readonly kind: 'delete';
}

export interface RenameRequest extends FileAddress {
  readonly kind: 'rename';
  readonly newName: string;
  /** A file of that name is replaced. Default true. */
  readonly overwrite?: boolean;
}

/** Copies a file under another name. */
export interface DuplicateRequest extends FileAddress {
  readonly kind: 'duplicate';
  readonly newName: string;
  /** A file of that name is replaced. */
  readonly overwrite: boolean;
}

export interface ListRequest {
  readonly kind: 'list';
  readonly directory: string;
}

export type Request =
  | OpenRequest
  | ReadRequest
  | WriteRequest
  | WriteZeroesRequest
  | DiscardRequest
  | FlushRequest
  | StatsRequest
  | BasesRequest
  | FetchBasesRequest
  | BootProfileRequest
  | ExportRequest
  | SaveRequest
  | ListSnapshotsRequest
  | CreateSnapshotRequest
  | GotoSnapshotRequest
  | DeleteSnapshotRequest
  | ReadVmStateRequest
  | WriteVmStateRequest
  | DiscardVmStateRequest
  | ListBitmapsRequest
  | ChangeBitmapsRequest
  | AddPassphraseRequest
  | ChangePassphraseRequest
  | ErasePassphraseRequest
  | CloseRequest
  | InspectRequest
  | StoreBeginRequest
  | StoreAppendRequest
  | StoreCommitRequest
  | StoreAbandonRequest
  | DeleteRequest
  | RenameRequest
  | DuplicateRequest
  | ListRequest
  | ListBasesRequest
  | RemoveBaseRequest;

export type RequestKind = Request['kind'];
export type RequestOf<Kind extends RequestKind> = Extract<Request, { kind: Kind }>;

export interface StoredFile {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Milliseconds since 1970. */
  readonly lastModified: number;
}

export interface ExportedFile {
  readonly blob: Blob;
  /** The lock that keeps the temporary file behind `blob` from being cleaned up. */
  readonly lock: string;
  /** Of an increment; null of anything else. */
  readonly token: IncrementToken | null;
}

/** What each request is answered with. */
export interface Results {
  open: DiskInfo;
  read: Bytes;
  write: null;
  writeZeroes: null;
  discard: null;
  flush: null;
  stats: DiskStats;
  bases: BaseStatus[];
  fetchBases: null;
  bootProfile: BootProfile;
  export: ExportedFile;
  /** Bytes of the file. */
  save: number;
  listSnapshots: SnapshotUsage[];
  createSnapshot: SnapshotInfo;
  gotoSnapshot: SnapshotInfo;
  deleteSnapshot: null;
  readVmState: Bytes;
  writeVmState: VmStateWritten;
  discardVmState: null;
  listBitmaps: BitmapUsage[];
  changeBitmaps: null;
  addPassphrase: number;
  changePassphrase: number;
  erasePassphrase: null;
  close: null;
  inspect: DiskInfo;
  storeBegin: null;
  storeAppend: null;
  storeCommit: DiskInfo | null;
  storeAbandon: null;
  delete: null;
  rename: null;
  duplicate: null;
  list: StoredFile[];
  listBases: StoredBase[];
  removeBase: null;
}

/** A `Qcow2Error` on its way: exceptions lose their class when they are cloned. */
export interface WireError {
  readonly code: ErrorCode;
  readonly message: string;
  /** The cause in words, or null. */
  readonly cause: string | null;
}

export interface RequestMessage {
  readonly id: number;
  readonly request: Request;
}

export interface CancelMessage {
  readonly cancel: number;
}

export type MessageToWorker = RequestMessage | CancelMessage;

export interface ProgressMessage {
  readonly id: number;
  readonly progress: Progress;
}

export interface ValueMessage {
  readonly id: number;
  readonly value: Results[RequestKind];
}

export interface ErrorMessage {
  readonly id: number;
  readonly error: WireError;
}

/** Sent once, before everything else: from now on the worker holds the lock by which its page sees that it lives. */
export interface ReadyMessage {
  readonly ready: true;
}

export type MessageToPage = ReadyMessage | ProgressMessage | ValueMessage | ErrorMessage;
