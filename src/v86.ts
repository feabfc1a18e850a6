/**
 * `qcow2-wasm/v86`: a qcow2 disk for the v86 emulator. `localDisk` when the engine runs in the emulator's thread,
 * `remoteDisk` when a worker holds it; `attach` joins the disk and the emulator.
 */
export { isQcow2Error, Qcow2Error, type ErrorCode } from './errors.js';
export { attach, type Attachment, type AttachOptions } from './v86/attach.js';
export type { CheckpointOptions, Checkpoints } from './v86/checkpoints.js';
export { type DurabilityOptions, type PageEvents } from './v86/durability.js';
export type { MachineSnapshot, Picture, SaveSnapshotOptions } from './v86/machine-snapshots.js';
export type { SnapshotChoice } from './v86/snapshot-entries.js';
export { MAXIMUM_PICTURE_BYTES } from './v86/state-record.js';
export {
  localDisk,
  MAXIMUM_DISK_BYTES,
  remoteDisk,
  V86Disk,
  type DiskActivity,
  type DiskFault,
  type LocalDiskOptions,
  type V86DiskOptions,
} from './v86/v86-disk.js';
export type { V86DiskContract, V86Emulator } from './v86/v86-types.js';
