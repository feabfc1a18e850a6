/** The snapshots of an image, one by one: which is meant, and what its VM state says of the machine in it. */
import { Qcow2Error } from '../errors.js';
import type { RemoteSnapshots } from '../worker/remote-disk.js';
import type { SnapshotUsage } from './disk-source.js';
import { murmurHash32 } from './murmur-hash.js';
import type { ReadState } from './ram-pages.js';
import { RECORD_BYTES } from './state-map.js';
import { decodeRecord, type StateRecord } from './state-record.js';

/** By id, or else the newest of that name. @throws `NOT_FOUND` */
export async function entryOf(snapshots: RemoteSnapshots, idOrName: string): Promise<SnapshotUsage> {
  return entryWith(await snapshots.list(), idOrName);
}

function entryWith(entries: readonly SnapshotUsage[], idOrName: string): SnapshotUsage {
  const entry = entries.find(({ id }) => id === idOrName) ?? entries.findLast(({ name }) => name === idOrName);
  if (!entry) throw new Qcow2Error('NOT_FOUND', `there is no snapshot "${idOrName}"`);
  return entry;
}

/** Deletes what else has the name of the snapshot `id`, which is stable by now. Returns its entry. */
export async function replaceOthers(snapshots: RemoteSnapshots, id: string, name: string): Promise<SnapshotUsage> {
  const entries = await snapshots.list();
  const others = entries.filter((entry) => entry.name === name && entry.id !== id);
  for (const other of others) await snapshots.delete(other.id);
  return entryWith(others.length > 0 ? await snapshots.list() : entries, id);
}

export function readerOf(snapshots: RemoteSnapshots, id: string): ReadState {
  return (offset, length) => snapshots.readVmState(id, offset, length);
}

/** @throws as `decodeRecord`, or `UNSUPPORTED` for a snapshot without VM state. */
export async function readRecord(
  snapshots: RemoteSnapshots,
  { id, vmStateBytes }: SnapshotUsage,
): Promise<StateRecord> {
  if (vmStateBytes === 0) throw new Qcow2Error('UNSUPPORTED', 'the snapshot is of the disk alone, without a machine');
  const head = await snapshots.readVmState(id, 0, Math.min(RECORD_BYTES, vmStateBytes));
  return decodeRecord(head, vmStateBytes);
}

/** The picture, or null: there is none, or it is damaged, which is no reason not to load the machine. */
export async function readPicture(
  snapshots: RemoteSnapshots,
  id: string,
  { picture }: StateRecord,
): Promise<Uint8Array | null> {
  if (!picture) return null;
  const bytes = await snapshots.readVmState(id, picture.offset, picture.length);
  return murmurHash32(bytes) === picture.checksum ? bytes : null;
}
