/** The snapshots of an image, one by one: which is meant, and what its VM state says of the machine in it. */
import { Qcow2Error } from '../errors.js';
import type { RemoteSnapshots } from '../worker/remote-disk.js';
import type { SnapshotUsage } from './disk-source.js';
import { murmurHash32 } from '../util/murmur-hash.js';
import type { ReadState } from './ram-pages.js';
import { RECORD_BYTES } from './state-map.js';
import { decodeRecord, type StateRecord } from './state-record.js';

/** A snapshot by its id, by its name (the newest of that name), or by whichever of the two the text is. */
export type SnapshotChoice = string | { readonly id: string } | { readonly name: string };

/** @throws `NOT_FOUND`, or `BAD_ARGUMENT` for a text that is the id of one snapshot and the name of another */
export async function entryOf(snapshots: RemoteSnapshots, choice: SnapshotChoice): Promise<SnapshotUsage> {
  return entryWith(await snapshots.list(), choice);
}

function entryWith(entries: readonly SnapshotUsage[], choice: SnapshotChoice): SnapshotUsage {
  const given = typeof choice === 'string' ? { id: choice, name: choice } : choice;
  const byId = 'id' in given ? entries.find(({ id }) => id === given.id) : undefined;
  const byName = 'name' in given ? entries.findLast(({ name }) => name === given.name) : undefined;
  const entry = byId ?? byName;
  const what = JSON.stringify(choice);
  if (!entry) throw new Qcow2Error('NOT_FOUND', `there is no snapshot ${what}`);
  if (!byName || byName === entry || byId?.name === byName.name) return entry;
  throw new Qcow2Error('BAD_ARGUMENT', `${what} is the id of one snapshot and the name of another; say which is meant`);
}

/** Deletes what else has the name of the snapshot `id`, which is stable by now. Returns its entry. */
export async function replaceOthers(snapshots: RemoteSnapshots, id: string, name: string): Promise<SnapshotUsage> {
  const entries = await snapshots.list();
  const others = entries.filter((entry) => entry.name === name && entry.id !== id);
  for (const other of others) await snapshots.delete(other.id);
  return entryWith(others.length > 0 ? await snapshots.list() : entries, { id });
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
