/**
 * Crashes while snapshots with VM state are created, gone to, replaced and deleted, in every layout.
 *
 * 1. A check of every crash state, ours and (for some) qemu-img's, finds leaks only; with the dirty bit set, after a repair.
 * 2. The operation that was under way has happened, whole, or has not: every snapshot that was there is there with its disk
 *    and its VM state, or is gone without a trace; the active disk is the one or the other.
 * 3. The guest's writes before it are all there if it has happened; else each byte is as at the last operation or later.
 * 4. Snapshots can be created, gone to and deleted afterwards, and that leaves leaks at most, too.
 *
 * `CRASH_STATES` sets how many states in all, `TEST_SEED` the seed.
 */
import { describe, it } from 'vitest';
import {
  createSnapshot,
  deleteSnapshot,
  gotoSnapshot,
  listSnapshots,
  MemoryStorage,
  openSnapshot,
  runToEnd,
  writeVmState,
  type Qcow2Image,
} from '../../src/index.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';
import type { ModelSnapshot } from '../support/snapshot-history.js';
import { expectLeaksOnly, expectLeaksOnlyByQemu, isDirty, JUDGED_BY_QEMU, runCheck } from './crash-judges.js';
import { crashStates, type CrashState } from './crash-states.js';
import {
  openForSnapshots,
  recordSnapshots,
  SNAPSHOT_SCENARIOS,
  type Moment,
  type SnapshotRecording,
  type SnapshotScenario,
  type TimelineEntry,
} from './snapshot-scenarios.js';

const STATES = Number(process.env['CRASH_STATES'] ?? 340);
/** States per recorded run; then a new run with another seed. */
const STATES_PER_RUN = 50;
/** Where the header names its tables and the size of the disk, and for how many bytes. */
const SWITCH = { offset: 24, length: 48 };

/** What may be found: the one thing that was under way, and what there was before with the writes of the guest since. */
interface Allowed {
  readonly under: TimelineEntry | null;
  /** The first is stable. */
  readonly before: readonly TimelineEntry[];
}

function allowedAt(timeline: readonly TimelineEntry[], at: number): Allowed {
  const first = timeline.findLastIndex(({ byGuest, ended }) => !byGuest && ended <= at);
  const entered = timeline.slice(first).filter(({ begun }, index) => index === 0 || begun < at);
  const last = entered.at(-1)!;
  const underWay = entered.length > 1 && !last.byGuest;
  return underWay ? { under: last, before: entered.slice(0, -1) } : { under: null, before: entered };
}

/** Finds out which of the two it is, and demands all of it. Returns what it is, with the disk as it was found. */
function expectAllowed(image: Qcow2Image, { under, before }: Allowed): Moment {
  const listed = listSnapshots(image).map(({ id, name }) => `${id} ${name}`);
  const disk = readWhole(image);
  const has = ({ snapshots }: Moment) => listed.join() === snapshots.map(({ id, name }) => `${id} ${name}`).join();
  const stable = before[0]!;
  if (under !== null && has(under) && Buffer.compare(disk, under.disk) === 0) {
    expectSnapshots(image, under.snapshots);
    return { disk, snapshots: under.snapshots };
  }
  if (!has(stable)) {
    const wanted = before.map(({ snapshots }) => snapshots.map(({ id }) => id).join(' ')).join(' or ');
    throw new Error(`the snapshots are ${listed.join(', ')}; expected ${wanted} (under way: ${under?.what})`);
  }
  const allowed = stable.disk.slice();
  for (const later of before) {
    for (let at = 0; at < allowed.length; at++) if (disk[at] === later.disk[at]) allowed[at] = disk[at]!;
  }
  expectSameBytes(disk, allowed, `the disk, while ${under?.what ?? 'the guest was writing'}`);
  expectSnapshots(image, stable.snapshots);
  return { disk, snapshots: stable.snapshots };
}

function expectSnapshots(image: Qcow2Image, snapshots: readonly ModelSnapshot[]): void {
  for (const { id, disk, vmState } of snapshots) {
    const view = openSnapshot(image, { id });
    expectSameBytes(readWhole(view), disk, `the disk of snapshot ${id}`);
    const state = new Uint8Array(vmState.length);
    view.readVmState(0, state);
    expectSameBytes(state, vmState, `the VM state of snapshot ${id}`);
  }
}

/** All operations once more, on what the crash has left. */
function goOn(image: Qcow2Image, { disk, snapshots }: Moment): void {
  const [oldest] = snapshots;
  const vmState = new Uint8Array(3 * image.clusterSize + 100).fill(0x5a);
  if (oldest !== undefined) vmState.set(oldest.vmState.subarray(0, vmState.length));
  writeVmState(image, 0, vmState, { like: oldest?.id ?? null });
  const created = createSnapshot(image, { name: 'after the crash', vmStateBytes: vmState.length });
  const now: ModelSnapshot = { id: created.id, name: created.name, disk, vmState };
  image.write(disk.length - 7001, new Uint8Array(5000).fill(0x77));
  if (oldest !== undefined) {
    gotoSnapshot(image, { id: oldest.id });
    expectSameBytes(readWhole(image), oldest.disk, 'the disk after going to the oldest snapshot');
    runToEnd(deleteSnapshot(image, { id: oldest.id }));
  }
  expectSnapshots(image, [...snapshots.slice(1), now]);
  gotoSnapshot(image, { id: created.id }, { vmState: 'drop' });
  expectSameBytes(readWhole(image), disk, 'the disk after going to the new snapshot');
}

function judge(scenario: SnapshotScenario, recorded: SnapshotRecording, state: CrashState, byQemu: boolean): void {
  if (byQemu) expectLeaksOnlyByQemu([state.file], 'of the state itself');
  if (!isDirty(state.file)) expectLeaksOnly(state.file, 'of the state itself');
  const storage = new MemoryStorage(state.file);
  // Where a count holds few references, a leaked one stands in the way of the next snapshot.
  if (scenario.most !== undefined) runCheck(storage, 'leaks');
  const image = openForSnapshots(scenario, storage, recorded.backing);
  const found = expectAllowed(image, allowedAt(recorded.timeline, state.at));
  if (found.snapshots.length < (scenario.most ?? Infinity)) goOn(image, found);
  image.close();
  expectLeaksOnly(storage.toBytes(), 'after snapshots were made and deleted again');
  if (byQemu) expectLeaksOnlyByQemu([storage.toBytes()], 'after snapshots were made and deleted again');
}

function crash(scenario: SnapshotScenario, states: number, random: SeededRandom): void {
  for (let number = 0; number < states;) {
    const recorded = recordSnapshots(scenario, random);
    const { start, events } = recorded.storage;
    const near = events.flatMap((event, index) => {
      const switches = event.kind === 'write' && event.offset === SWITCH.offset && event.bytes.length === SWITCH.length;
      return switches ? [index] : [];
    });
    const count = Math.min(STATES_PER_RUN, states - number);
    for (const state of crashStates(start, events, { count, near }, random)) {
      try {
        judge(scenario, recorded, state, number++ % JUDGED_BY_QEMU === 0);
      } catch (cause) {
        const reason = cause instanceof Error ? cause.message : String(cause);
        const place = `a crash after event ${state.at} of ${events.length}, keeping ${state.keeping}`;
        throw new Error(`${place} (state ${number - 1}): ${reason}`, { cause });
      }
    }
  }
}

describe('after a crash every snapshot is there with its disk and VM state, or absent, and there are leaks at most', () => {
  const share = Math.ceil(STATES / SNAPSHOT_SCENARIOS.length);
  SNAPSHOT_SCENARIOS.forEach((scenario, index) => {
    it(
      scenario.title,
      () => withSeed(scenario.title, seedOfThisRun(index + 600), (random) => crash(scenario, share, random)),
      30_000 + 200 * share,
    );
  });
});
