/**
 * Creating an internal snapshot: the disk as it is now, and the VM state that was written behind its end, under a name (QEMU:
 * `qemu-img snapshot -c`, `savevm`).
 *
 * Everything the active L1 table leads to is referred to once more. The VM state moves: it is the snapshot's alone
 * afterwards, and left-overs behind it, as of a snapshot that was gone to, are dropped first. One switch of the tables
 * does it all (`metadata/table-switch.ts`): after a crash the snapshot is there, whole, or nothing has happened.
 */
import type { GuestOffset } from '../../disk.js';
import { Qcow2Error } from '../../errors.js';
import { l1EntriesFor } from '../../format/geometry.js';
import { MAX_L1_BYTES, MAX_SNAPSHOTS, MAX_SNAPSHOT_TABLE_BYTES } from '../../format/limits.js';
import { encodeSnapshotEntry, type SnapshotFields } from '../../format/snapshot-table.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { unmapFrom } from '../../image/unmap-from.js';
import type { ChangeableTables } from '../../metadata/changeable-tables.js';
import { namedTables } from '../../metadata/l2-references.js';
import { joinEntries, readSnapshots, tableBytes, type StoredSnapshot } from '../../metadata/snapshot-records.js';
import { TableSwitch } from '../../metadata/table-switch.js';
import { runToEnd } from '../../util/steps.js';
import { requireSnapshot, snapshotInfo } from './list-snapshots.js';
import { changeableForSnapshots, hostsOf, takeUpSwitched, vmStateStart, withUsableL1 } from './snapshot-tables.js';
import type { NewSnapshot, SnapshotInfo } from './snapshot-info.js';

/** What QEMU's monitor and tools can hold; they would show and find less of a longer one. Bytes of UTF-8. */
const LONGEST_ID = 127;
const LONGEST_NAME = 255;
const LARGEST_CLOCK = 2n ** 64n - 1n;
const LARGEST_SECONDS = 2 ** 32 - 1;
const LARGEST_NANOSECONDS = 999_999_999;

/**
 * Stable when it returns. Throws `BAD_ARGUMENT` for an id that exists or a field out of its range, `LIMIT` for one snapshot
 * too many or a refcount that can't grow, `UNSUPPORTED` for an image with an external data file, and as a write does.
 * The disk and its snapshots
 * are as they were then.
 */
export function createSnapshot(image: Qcow2Image, options: NewSnapshot): SnapshotInfo {
  const tables = changeableForSnapshots(image);
  checkCount(tables.header.value.snapshotCount);
  const snapshots = readSnapshots(tables.storage, tables.header.value);
  const fields = newFields(options, snapshots);
  const { geometry, header } = tables;
  const { size } = header.value;
  const keep = options.furtherVmState === 'keep';
  const needed = snapshotL1Entries(tables, fields.vmStateBytes);
  const l1Entries = keep ? Math.max(needed, tables.l1.entries) : needed;
  const entry = (l1Offset: number) => encodeSnapshotEntry({ ...fields, l1Offset, l1Entries, diskSize: size });
  checkTableBytes(tableBytes(snapshots) + entry(0).length);
  header.beforeChange();
  const moved = vmStateStart(tables) + fields.vmStateBytes;
  if (!keep) runToEnd(unmapFrom(image, moved));
  const next = divideL1(tables, { snapshotEntries: l1Entries, keptFrom: keep ? moved : null });
  const change = new TableSwitch(tables);
  for (const table of namedTables(next.shared, geometry)) change.references.count(table, change.changes, 1);
  const freed = change.commit({
    size,
    l1: next.active,
    snapshotL1: next.snapshot,
    snapshotCount: snapshots.length + 1,
    snapshotTable: (l1Offset) => joinEntries([...snapshots.map(({ bytes }) => bytes), entry(l1Offset)]),
    oldSnapshotTableBytes: tableBytes(snapshots),
    keptL1Tables: withUsableL1(snapshots, tables),
  });
  takeUpSwitched(image, freed);
  return snapshotInfo(requireSnapshot(readSnapshots(image.storage, image.header), { id: fields.id }), image.header);
}

function snapshotL1Entries({ geometry, header }: ChangeableTables, vmStateBytes: number): number {
  const entries = l1EntriesFor(geometry, header.value.size) + l1EntriesFor(geometry, vmStateBytes);
  if (entries * 8 <= MAX_L1_BYTES) return entries;
  const limit = `the L1 table of the snapshot would need ${entries * 8} bytes; the limit is ${MAX_L1_BYTES}`;
  throw new Qcow2Error('LIMIT', `vmStateBytes is ${vmStateBytes}; ${limit}`);
}

interface L1Division {
  readonly snapshotEntries: number;
  /** From this guest offset on the tables go to both; null where there is nothing. */
  readonly keptFrom: GuestOffset | null;
}

/** Which L2 tables go where: those of the disk to both, those of the VM state to the snapshot. */
function divideL1({ l1, geometry, header }: ChangeableTables, { snapshotEntries, keptFrom }: L1Division) {
  const ofDisk = l1EntriesFor(geometry, header.value.size);
  const keptIndex = keptFrom === null ? Infinity : l1EntriesFor(geometry, keptFrom);
  const hosts = hostsOf(l1);
  const active = hosts.map((host, index) => (index < ofDisk || index >= keptIndex ? host : 0));
  const shared = active;
  const snapshot = new Float64Array(snapshotEntries);
  snapshot.set(hosts.subarray(0, snapshotEntries));
  return { active, snapshot, shared };
}

type NewFields = Omit<SnapshotFields, 'l1Offset' | 'l1Entries' | 'diskSize'>;

function newFields(options: NewSnapshot, snapshots: readonly StoredSnapshot[]): NewFields {
  const { name, id = nextId(snapshots), vmClock = 0n } = options;
  const { instructionCount = null, vmStateBytes = 0 } = options;
  checkText('id', id, LONGEST_ID);
  checkText('name', name, LONGEST_NAME);
  if (id === '') throw new Qcow2Error('BAD_ARGUMENT', 'id is empty; it must have at least one character');
  if (snapshots.some((snapshot) => snapshot.id === id)) {
    throw new Qcow2Error('BAD_ARGUMENT', `id is ${JSON.stringify(id)}; there is a snapshot with this id`);
  }
  checkClock('vmClock', vmClock);
  // All ones stand for none.
  if (instructionCount !== null) checkClock('instructionCount', instructionCount, LARGEST_CLOCK - 1n);
  if (!Number.isSafeInteger(vmStateBytes) || vmStateBytes < 0) {
    throw new Qcow2Error('BAD_ARGUMENT', `vmStateBytes is ${vmStateBytes}; it must be a number of bytes`);
  }
  return { id, name, date: dateOf(options.date ?? Date.now()), vmClock, instructionCount, vmStateBytes };
}

function dateOf(date: NonNullable<NewSnapshot['date']>): SnapshotFields['date'] {
  const isNumber = typeof date === 'number';
  const seconds = isNumber ? Math.floor(date / 1000) : date.seconds;
  const nanoseconds = isNumber
    ? Math.min(LARGEST_NANOSECONDS, Math.round((date - seconds * 1000) * 1e6))
    : date.nanoseconds;
  const isWhole = Number.isInteger(seconds) && Number.isInteger(nanoseconds);
  if (isWhole && seconds >= 0 && seconds <= LARGEST_SECONDS && nanoseconds >= 0 && nanoseconds <= LARGEST_NANOSECONDS) {
    return { seconds, nanoseconds };
  }
  const limits = `they must be at most ${LARGEST_SECONDS} and ${LARGEST_NANOSECONDS}`;
  throw new Qcow2Error('BAD_ARGUMENT', `date is ${seconds} s and ${nanoseconds} ns after 1970; ${limits}`);
}

/** One above the highest number, as in QEMU. */
function nextId(snapshots: readonly StoredSnapshot[]): string {
  const numbers = snapshots.map(({ id }) => /^\d+/.exec(id)?.[0] ?? '0').map(BigInt);
  return String(numbers.reduce((highest, number) => (number > highest ? number : highest), 0n) + 1n);
}

function checkText(field: string, text: string, longest: number): void {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length > longest || text.includes('\0')) {
    const limit = `it must have ${longest} at most, none of them 0`;
    throw new Qcow2Error('BAD_ARGUMENT', `${field} has ${bytes.length} bytes; ${limit}`);
  }
  // Half a surrogate pair, or a byte order mark at the start, would not be found again.
  if (new TextDecoder().decode(bytes) === text) return;
  throw new Qcow2Error('BAD_ARGUMENT', `${field} is ${JSON.stringify(text)}, which does not come back from UTF-8`);
}

function checkClock(field: string, value: bigint, largest = LARGEST_CLOCK): void {
  if (value >= 0n && value <= largest) return;
  throw new Qcow2Error('BAD_ARGUMENT', `${field} is ${value}; it must be 0 to ${largest}`);
}

/** Before the entries are read: whatever they are, there is no room for one more. */
function checkCount(count: number): void {
  if (count < MAX_SNAPSHOTS) return;
  throw new Qcow2Error('LIMIT', `the image has ${count} snapshots; the limit is ${MAX_SNAPSHOTS}`);
}

function checkTableBytes(bytes: number): void {
  if (bytes <= MAX_SNAPSHOT_TABLE_BYTES) return;
  throw new Qcow2Error(
    'LIMIT',
    `the snapshot table would have ${bytes} bytes; the limit is ${MAX_SNAPSHOT_TABLE_BYTES}`,
  );
}
