/**
 * `qcow2-wasm`: the engine. Images are opened over a `Storage` and seen as a `Disk`; see `qcow2-wasm/opfs` for disks in the
 * browser, `qcow2-wasm/node` for files, `qcow2-wasm/v86` for the emulator.
 */
export { ERROR_CODES, Qcow2Error, isQcow2Error, type ErrorCode } from './errors.js';
export type { Disk, Extent, GuestOffset, HostOffset } from './disk.js';
export type { Storage } from './storage/storage.js';
export { NotResident, settle } from './storage/not-resident.js';
export { MemoryStorage } from './storage/memory.js';
export { BlobStorage } from './storage/blob.js';
export { ReadOnlyStorage } from './storage/read-only.js';
export { GuardedStorage } from './storage/guarded.js';
export { HttpStorage, openHttpStorage, type HttpStorageOptions } from './network/http-storage.js';
export { NetworkBase, type BaseStatus } from './network/network-base.js';
export type { EstimateRoom, PrefetchJob, RoomEstimate } from './network/make-offline.js';
export type { BaseFiles, SharedFile } from './network/kept-bases.js';
export type { BaseAddress, NetworkHost, OpenBaseOptions } from './network/open-base.js';
export type { BootProfile } from './network/boot-profile.js';
export { loadKernels, referenceKernels, wasmKernels } from './kernels/index.js';
export type { Kernels, KernelsFactory } from './kernels/kernels.js';
export type { Header } from './format/header.js';
export { createImage, type CompressionType, type CreateOptions, type NewDataFile } from './image/create.js';
export {
  openChain,
  openImage,
  type BackingOpener,
  type BackingReference,
  type LockedImage,
  type PassphraseSource,
  type ChainOptions,
  type OpenOptions,
} from './image/open.js';
export type { EncryptionFormat, ImageEncryption, RequiredEncryption } from './image/image-encryption.js';
export {
  newEncryption,
  unlockImage,
  type EncryptionSettings,
  type NewEncryption,
  type Passphrase,
  type UnlockOptions,
} from './image/unlock-image.js';
export type { KeyDerivation } from './crypto/key-derivation.js';
export type { LuksOptions } from './crypto/luks-create.js';
export type { CreateSectorCipher, SectorCipher } from './kernels/cipher-contract.js';
export type { ReopenOptions } from './image/lifecycle.js';
export type { RuntimeOptions } from './image/runtime-options.js';
export type { CorruptionEvent, CorruptionFacts, CorruptionListener } from './metadata/corruption.js';
export type { OverlapCheck, OverlapTemplate } from './metadata/overlap-options.js';
export { Qcow2Image, type ImageStatistics } from './image/qcow2-image.js';
export { RawDisk } from './image/raw-disk.js';
export { copiedEncryption } from './operations/copy-encryption.js';
export { copyDisk } from './operations/copy-disk.js';
export type { Progress } from './util/progress.js';
export { blockStatus, type BlockStatus, type GuestRange } from './operations/block-status.js';
export {
  imageInfo,
  type EncryptionInfo,
  type ImageInfo,
  type KeySlotInfo,
  type LuksInfo,
} from './operations/image-info.js';
export {
  measureBitmaps,
  measureDisk,
  measureNew,
  type Measurement,
  type MeasureOptions,
} from './operations/measure.js';
export {
  checkImage,
  checkVerdict,
  type CheckOptions,
  type CheckResult,
  type CheckEvent,
  type CheckListener,
  type Finding,
  type FindingFacts,
  type FindingKind,
  type Repair,
} from './operations/check/check-image.js';
export type { Preallocation } from './image/preallocate.js';
export { amendImage, type AmendOptions } from './operations/amend.js';
export { changeBackingFile, type ForeignBackingFile, type NewBackingFile } from './operations/change-backing.js';
export {
  addPassphrase,
  changePassphrase,
  erasePassphrase,
  type AddPassphraseRequest,
  type ErasePassphraseRequest,
  type KeySlotOptions,
  type NewPassphraseRequest,
} from './operations/key-slots.js';
export {
  addBitmap,
  bitmapUsage,
  clearBitmap,
  dirtyBytes,
  dirtyRanges,
  disableBitmap,
  enableBitmap,
  forgetLostBitmaps,
  hasLostBitmaps,
  listBitmaps,
  mergeBitmap,
  removeBitmap,
  storeBitmaps,
  type BitmapInfo,
  type BitmapUsage,
} from './operations/bitmaps/bitmaps.js';
export {
  confirmIncrement,
  exportIncremental,
  type IncrementOptions,
  type IncrementToken,
} from './operations/bitmaps/export-incremental.js';
export { newBitmapProblem, type NewBitmap, type NewBitmapProblem } from './operations/bitmaps/new-bitmap.js';
export type { BitmapState } from './metadata/persistent-bitmaps.js';
export { makeEmpty, type EmptyOptions } from './operations/make-empty.js';
export { resizeImage, type ResizeOptions } from './operations/resize.js';
export type {
  NewSnapshot,
  SnapshotInfo,
  SnapshotKey,
  SnapshotUsage,
  VmStateOptions,
  VmStateWritten,
} from './operations/snapshots/snapshot-info.js';
export { findSnapshot, listSnapshots, snapshotUsage } from './operations/snapshots/list-snapshots.js';
export { createSnapshot } from './operations/snapshots/create-snapshot.js';
export { copyWithSnapshots, layoutForCopy } from './operations/snapshots/copy-with-snapshots.js';
export { deleteSnapshot } from './operations/snapshots/delete-snapshot.js';
export { gotoSnapshot, type GotoOptions } from './operations/snapshots/goto-snapshot.js';
export { openSnapshot, type SnapshotView } from './operations/snapshots/open-snapshot.js';
export { discardVmState, readVmState, vmStateOffset, writeVmState } from './operations/snapshots/vm-state.js';
export { localSnapshots } from './worker/local-snapshots.js';
export { runJob, type RunOptions } from './operations/run-job.js';
export { runToEnd, type Steps } from './util/steps.js';
