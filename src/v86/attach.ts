/**
 * Joins a running emulator and its disk: installs the flush hook where v86 has the seam, runs the durability policy, and
 * offers what an embedder needs around both (flush, quiesce, counters, snapshots of the machine).
 *
 *   const disk = remoteDisk(remote);
 *   const emulator = new V86({ hda: disk, ... });
 *   const attachment = await attach(emulator, disk);
 */
import { Qcow2Error } from '../errors.js';
import { installAtaHook } from './ata-hook.js';
import type { SnapshotChoice } from './snapshot-entries.js';
import { startCheckpoints, type CheckpointMachine, type CheckpointOptions, type Checkpoints } from './checkpoints.js';
import { DurabilityPolicy, type DurabilityOptions } from './durability.js';
import { MachineSnapshots, type MachineSnapshot, type SaveSnapshotOptions } from './machine-snapshots.js';
import { RunningTime } from './running-time.js';
import type { DiskActivity, V86Disk } from './v86-disk.js';
import type { V86Emulator } from './v86-types.js';

export interface AttachOptions {
  readonly durability?: DurabilityOptions;
  /**
   * True (unless told) uses the hook where v86 has the seam; false leaves v86 as it is: the guest sees no write cache, and
   * only the timers flush. `required` refuses a v86 without the seam.
   */
  readonly flushHook?: boolean | 'required';
}

export interface Attachment {
  /** `flush-hook`: the guest's own flushes reach the disk and errors reach the guest. `timer`: the policy alone. */
  readonly seam: 'flush-hook' | 'timer';
  readonly activity: DiskActivity;
  /** Everything the guest has written so far is stable when it resolves. */
  flush(): Promise<void>;
  /**
   * Stops the emulator and resolves once no request is in flight: the moment to close the disk. A snapshot that is being
   * saved or loaded ends first.
   */
  quiesce(): Promise<void>;
  /**
   * Ends checkpoints, snapshots and the durability policy after one last flush. What is under way ends first. The disk
   * stays open.
   */
  detach(): Promise<void>;
  /**
   * Machine and disk as one moment, inside the image. The machine stands still meanwhile and then goes on. A snapshot of
   * that name is deleted once the new one is stable. One operation on snapshots at a time; others wait.
   * @throws `UNSUPPORTED` without snapshots, `READ_ONLY`, `BAD_ARGUMENT` if somebody starts the machine meanwhile, and what
   * flushing and writing the image fail with. There is no new snapshot then, and the machine goes on; but where only the old
   * one of that name could not be deleted, both are there. `V86_SEAM` after a load that failed halfway.
   */
  saveSnapshot(name: string, options?: SaveSnapshotOptions): Promise<MachineSnapshot>;
  /**
   * Machine and disk become what they were, by id or by name (the newest of that name). The machine runs afterwards if it
   * ran before.
   * @throws `NOT_FOUND`; `BAD_ARGUMENT` for a text that is one's id and another's name; `UNSUPPORTED` for a machine that does not fit this one, and `BAD_IMAGE` for one that is damaged,
   * before anything is touched; `V86_SEAM` if v86 refused it all the same: the machine stands still then.
   */
  loadSnapshot(snapshot: SnapshotChoice): Promise<MachineSnapshot>;
  /** By id or by name, as `loadSnapshot`. @throws `NOT_FOUND`, `BAD_ARGUMENT` */
  deleteSnapshot(snapshot: SnapshotChoice): Promise<void>;
  /** Oldest first, whoever made them; `loadable` says what `loadSnapshot` would. */
  listSnapshots(): Promise<MachineSnapshot[]>;
  /** Time travel: a snapshot every so many seconds while the machine runs, the last few kept. */
  checkpoint(options: CheckpointOptions): Checkpoints;
}

/**
 * Call it right after `new V86()`: it waits until the machine is built, before its first instruction.
 * @throws `BAD_ARGUMENT` if the disk is attached already, `V86_SEAM` if the hook is required and v86 has moved on.
 */
export async function attach(emulator: V86Emulator, disk: V86Disk, options: AttachOptions = {}): Promise<Attachment> {
  if (disk.onWrite) throw new Qcow2Error('BAD_ARGUMENT', `disk "${disk.name}" is attached to an emulator already`);
  // What the guest has flushed itself is not flushed again.
  const flush = () => (disk.activity.dirty ? disk.flush() : Promise.resolve());
  const flushAtOnce = () => (disk.activity.dirty ? disk.flushAtOnce() : Promise.resolve());
  const policy = new DurabilityPolicy(flush, options.durability, flushAtOnce);
  disk.onWrite = () => policy.noteWrite();
  await whenLoaded(emulator);
  const missing = options.flushHook === false ? ['(not asked for)'] : installAtaHook(emulator, disk);
  const time = new RunningTime(emulator);
  const snapshots = new MachineSnapshots({ emulator, disk, time, flush: () => policy.flushNow() });
  const checkpoints: Checkpoints[] = [];
  const detach = async (): Promise<void> => {
    for (const one of checkpoints) await one.stop();
    await snapshots.end();
    time.dispose();
    policy.dispose();
    disk.onWrite = null;
    await flush();
  };
  if (options.flushHook === 'required' && missing.length > 0) {
    await detach();
    throw new Qcow2Error('V86_SEAM', `this v86 lacks what the flush hook needs: ${missing.join(', ')}`);
  }
  return {
    seam: missing.length === 0 ? 'flush-hook' : 'timer',
    get activity() {
      return disk.activity;
    },
    flush: () => policy.flushNow(),
    quiesce: () => snapshots.quiesce(),
    detach,
    saveSnapshot: (name, saveOptions) => snapshots.save(name, saveOptions),
    loadSnapshot: (snapshot) => snapshots.load(snapshot),
    deleteSnapshot: (snapshot) => snapshots.delete(snapshot),
    listSnapshots: () => snapshots.list(),
    checkpoint: (checkpointOptions) => {
      const started = startCheckpoints(checkpointMachine(emulator, snapshots, time), checkpointOptions);
      checkpoints.push(started);
      return started;
    },
  };
}

function checkpointMachine(emulator: V86Emulator, snapshots: MachineSnapshots, time: RunningTime): CheckpointMachine {
  return {
    save: (name, options) => snapshots.save(name, options),
    delete: (id) => snapshots.delete({ id }),
    list: () => snapshots.entries(),
    runningTime: () => time.here,
    instructions: () => emulator.get_instruction_counter(),
  };
}

function whenLoaded(emulator: V86Emulator): Promise<void> {
  if (emulator.v86?.cpu?.devices?.ide) return Promise.resolve();
  return new Promise((resolve) => {
    const listener = (): void => {
      emulator.remove_listener('emulator-loaded', listener);
      resolve();
    };
    emulator.add_listener('emulator-loaded', listener);
  });
}
