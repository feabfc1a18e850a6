/** Whether the machine in a snapshot can go on in this one. Everything is looked at before anything is touched. */
import { Qcow2Error } from '../errors.js';
import type { DiskSource, SnapshotUsage } from './disk-source.js';
import type { MachineShape } from './saved-state.js';
import type { StateRecord } from './state-record.js';

export const EMULATOR = 'v86';

/** @throws `UNSUPPORTED`, with the reason, unless `record` fits a machine of this shape on this disk. */
export function checkFit(record: StateRecord, info: SnapshotUsage, here: MachineShape, disk: DiskSource): void {
  refuseOther('emulator', record.emulator, EMULATOR);
  checkShape(record.machine, here);
  refuseOther('disk size', info.diskSize, disk.size);
  refuseOther('disk size', record.disk.size, info.diskSize);
  // An image that has none now may hold by itself what it took from one: that is what an export is.
  if (disk.backingFile !== null) refuseOther('backing file', record.disk.backingFile, disk.backingFile);
}

/** @throws `UNSUPPORTED` unless v86 can put a state of shape `saved` into a machine of shape `here`. */
export function checkShape(saved: MachineShape, here: MachineShape): void {
  refuseOther('state version', saved.stateVersion, here.stateVersion);
  refuseOther('memory size', saved.memoryBytes, here.memoryBytes);
  refuseOther('VGA memory size', saved.vgaBytes, here.vgaBytes);
  refuseOther('devices', saved.devices.join(), here.devices.join());
}

function refuseOther(what: string, saved: number | string | null, here: number | string): void {
  if (saved === here) return;
  throw new Qcow2Error('UNSUPPORTED', `the machine was saved with ${what} ${saved ?? 'none'}; here it is ${here}`);
}
