/**
 * The machine and its disk as one moment: the machine's state is the VM state of an internal snapshot of its disk's image.
 *
 *   save    stop, wait for the disk's requests, flush | save_state, write it, create | run | delete what had the name
 *   load    find, read all of the state, check it     | stop, wait, go to the disk, restore_state | run
 *
 * What holds:
 * 1. One operation at a time; the others wait for their turn.
 * 2. A snapshot is there whole or not at all: creating it is one step, and the last one.
 * 3. What does not fit is refused while the machine runs on and nothing has been touched.
 * 4. The machine runs afterwards if it ran before, also after a failure; but not if its state could not be restored when the
 *    disk was that state's already, for then memory and disk are of two moments.
 */
import { Qcow2Error } from '../errors.js';
import type { Progress } from '../util/progress.js';
import { reasonOf } from '../util/reason-of.js';
import type { RemoteSnapshots } from '../worker/remote-disk.js';
import type { SnapshotUsage } from './disk-source.js';
import { readMachineState, writeMachineState, type BaseState } from './machine-state.js';
import { OneAtATime } from './one-at-a-time.js';
import type { RunningTime } from './running-time.js';
import { readSavedState, type MachineShape, type SavedState } from './saved-state.js';
import { entryOf, readerOf, readPicture, readRecord, replaceOthers, type SnapshotChoice } from './snapshot-entries.js';
import { checkFit, checkShape, EMULATOR } from './snapshot-fit.js';
import { MAXIMUM_PICTURE_BYTES, type StateRecord } from './state-record.js';
import { unshiftTimeStamps } from './time-stamp.js';
import type { V86Disk } from './v86-disk.js';
import type { V86Emulator } from './v86-types.js';

/** An image file of any kind, 64 KiB at most; or what gives it when the machine stands still. */
export type Picture = Uint8Array | (() => Promise<Uint8Array | null>);

export interface SaveSnapshotOptions {
  /** What to show for it. */
  readonly picture?: Picture;
  /** Stores the machine's state compressed, as the image's compression type says: smaller, and slower. */
  readonly compress?: boolean;
  readonly onProgress?: (progress: Progress) => void;
}

/** A snapshot inside the image, whoever made it. */
export interface MachineSnapshot {
  readonly id: string;
  readonly name: string;
  readonly date: Date;
  /** How long the machine had run. */
  readonly runningSeconds: number;
  /** Bytes of VM state, zeroes included; 0: the snapshot is of the disk alone. */
  readonly stateBytes: number;
  /** What deleting it would free. */
  readonly ownBytes: number;
  readonly diskSize: number;
  /** Null: no machine of this package. */
  readonly machine: { readonly emulator: string; readonly stateVersion: number; readonly memoryBytes: number } | null;
  readonly picture: Uint8Array | null;
  /** Null: `loadSnapshot` takes it. Else why not. */
  readonly loadable: string | null;
}

export interface SnapshotMachine {
  readonly emulator: V86Emulator;
  readonly disk: V86Disk;
  readonly time: RunningTime;
  readonly flush: () => Promise<void>;
}

export class MachineSnapshots {
  readonly #machine: SnapshotMachine;
  readonly #queue = new OneAtATime();
  /** Of this machine. It takes a whole state to know it, so it is kept. */
  #shape: MachineShape | null = null;
  /** The snapshot that was saved or loaded last: what memory holds comes from there. */
  #latest: string | null = null;
  /** The snapshot that the disk went to and the memory did not: until another one is loaded they are of two moments. */
  #torn: string | null = null;
  #hasEnded = false;

  constructor(machine: SnapshotMachine) {
    this.#machine = machine;
  }

  save(name: string, options: SaveSnapshotOptions = {}): Promise<MachineSnapshot> {
    return this.#run(async (snapshots) => {
      this.#refuseReadOnly();
      this.#refuseTorn();
      const base = await this.#base(snapshots);
      const { id } = await this.#whileStopped(async ({ refuseIfItRan }) => {
        await this.#machine.flush();
        const picture = await takePicture(options.picture);
        const state = await this.#ownState();
        // What a save that was cut short has left.
        await snapshots.discardVmState();
        try {
          const vmStateBytes = await this.#write(state, picture, { snapshots, base, options });
          const vmClock = BigInt.asUintN(63, BigInt(Math.round(this.#machine.time.total * 1e6)));
          // What the guest writes from here on comes behind this request.
          refuseIfItRan();
          return await snapshots.create({ name, vmClock, vmStateBytes });
        } catch (error) {
          await snapshots.discardVmState().catch(() => undefined);
          throw error;
        }
      });
      this.#latest = id;
      return this.#describe(snapshots, await replaceOthers(snapshots, id, name));
    });
  }

  load(choice: SnapshotChoice): Promise<MachineSnapshot> {
    return this.#run(async (snapshots) => {
      this.#refuseReadOnly();
      const entry = await entryOf(snapshots, choice);
      const state = await this.#readFitting(snapshots, entry);
      await this.#whileStopped(async ({ refuseIfItRan, leaveStopped }) => {
        await snapshots.goto(entry.id);
        const { emulator, disk, time } = this.#machine;
        try {
          refuseIfItRan();
          unshiftTimeStamps(emulator);
          await disk.becomeSnapshot(() => emulator.restore_state(state));
        } catch (cause) {
          this.#torn = entry.name;
          await leaveStopped();
          const message = `the disk is that of snapshot "${entry.name}", its machine was not restored and stands still: ${reasonOf(cause)}`;
          throw new Qcow2Error('V86_SEAM', message, { cause });
        }
        time.goOnFrom(Number(entry.vmClock) / 1e6);
        this.#latest = entry.id;
        this.#torn = null;
      });
      return this.#describe(snapshots, await entryOf(snapshots, { id: entry.id }));
    });
  }

  delete(choice: SnapshotChoice): Promise<void> {
    return this.#run(async (snapshots) => snapshots.delete((await entryOf(snapshots, choice)).id));
  }

  /** What the image says of them, without a look at the machines inside. */
  entries(): Promise<SnapshotUsage[]> {
    return this.#run((snapshots) => snapshots.list());
  }

  /** Oldest first. */
  list(): Promise<MachineSnapshot[]> {
    return this.#run(async (snapshots) => {
      const found: MachineSnapshot[] = [];
      for (const entry of await snapshots.list()) found.push(await this.#describe(snapshots, entry));
      return found;
    });
  }

  /** Stops the machine when its turn comes, and resolves once no request is in flight. */
  quiesce(): Promise<void> {
    return this.#queue.run(() => this.#stop());
  }

  /** Takes no more operations; resolves when those that were asked for have ended. */
  async end(): Promise<void> {
    this.#hasEnded = true;
    await this.#queue.run(() => Promise.resolve());
  }

  async #run<T>(operation: (snapshots: RemoteSnapshots) => Promise<T>): Promise<T> {
    const { name, source } = this.#machine.disk;
    if (this.#hasEnded) throw new Qcow2Error('CLOSED', `disk "${name}" is detached from the emulator`);
    const { snapshots } = source;
    if (!snapshots) throw new Qcow2Error('UNSUPPORTED', `disk "${name}" has no snapshots`);
    return this.#queue.run(() => operation(snapshots));
  }

  #refuseTorn(): void {
    if (this.#torn === null) return;
    const message = `the disk is that of snapshot "${this.#torn}", and the memory is not: there is no moment to save`;
    throw new Qcow2Error('V86_SEAM', message);
  }

  async #stop(): Promise<void> {
    await this.#machine.emulator.stop();
    await this.#machine.disk.whenIdle();
  }

  /** Runs `job` while the machine stands still. Then it goes on if it ran, unless `job` leaves it stopped. */
  async #whileStopped<T>(job: (standstill: Standstill) => Promise<T>): Promise<T> {
    const { emulator, time } = this.#machine;
    let goesOn = emulator.is_running();
    try {
      await this.#stop();
      const moment = time.here;
      return await job({
        refuseIfItRan: () => {
          if (time.here !== moment) throw new Qcow2Error('BAD_ARGUMENT', 'somebody started the machine meanwhile');
        },
        leaveStopped: () => {
          goesOn = false;
          return this.#stop();
        },
      });
    } finally {
      if (goesOn) await emulator.run();
    }
  }

  #refuseReadOnly(): void {
    const { name, readOnly } = this.#machine.disk;
    if (readOnly) throw new Qcow2Error('READ_ONLY', `disk "${name}" is read-only`);
  }

  async #ownState(): Promise<SavedState> {
    const state = readSavedState(await this.#machine.emulator.save_state());
    this.#shape = state.shape;
    return state;
  }

  async #ownShape(): Promise<MachineShape> {
    return this.#shape ?? (await this.#ownState()).shape;
  }

  /** The snapshot whose memory is most like the machine's: the one it comes from, or else the newest. */
  async #base(snapshots: RemoteSnapshots): Promise<(BaseState & { id: string }) | null> {
    const entries = await snapshots.list();
    const ofMachines = entries.filter(({ vmStateBytes }) => vmStateBytes > 0);
    const entry = ofMachines.find(({ id }) => id === this.#latest) ?? ofMachines.at(-1);
    if (!entry) return null;
    try {
      const record = await readRecord(snapshots, entry);
      return { id: entry.id, record, read: readerOf(snapshots, entry.id) };
    } catch {
      return null;
    }
  }

  #write(state: SavedState, picture: Uint8Array | null, { snapshots, base, options }: SaveContext): Promise<number> {
    const { name, source } = this.#machine.disk;
    const [, , generation] = this.#machine.disk.get_state();
    const total = state.bytes.length;
    let done = 0;
    const vmState = { like: base?.id ?? null, compress: options.compress ?? false };
    const target = {
      clusterSize: source.clusterSize,
      write: async (offset: number, piece: Uint8Array<ArrayBuffer>): Promise<void> => {
        await snapshots.writeVmState(offset, piece, vmState);
      },
      onBytes: (count: number): void => {
        done = Math.min(total, done + count);
        options.onProgress?.({ done, total, what: 'saving the machine' });
      },
    };
    const disk = { name, size: source.size, generation, backingFile: source.backingFile };
    return writeMachineState({ state, picture, identity: { emulator: EMULATOR, disk } }, target, base);
  }

  /** Reads the state of a snapshot and looks at all that can be known before v86 has it. */
  async #readFitting(snapshots: RemoteSnapshots, entry: SnapshotUsage): Promise<ArrayBuffer> {
    const record = await readRecord(snapshots, entry);
    const shape = await this.#ownShape();
    checkFit(record, entry, shape, this.#machine.disk.source);
    const state = await readMachineState(record.state, readerOf(snapshots, entry.id));
    checkShape(readSavedState(state).shape, shape);
    return state;
  }

  async #describe(snapshots: RemoteSnapshots, entry: SnapshotUsage): Promise<MachineSnapshot> {
    let record: StateRecord | null = null;
    let picture: Uint8Array | null = null;
    let loadable: string | null = null;
    try {
      record = await readRecord(snapshots, entry);
      picture = await readPicture(snapshots, entry.id, record);
      checkFit(record, entry, await this.#ownShape(), this.#machine.disk.source);
      this.#refuseReadOnly();
    } catch (error) {
      loadable = reasonOf(error);
    }
    const { seconds, nanoseconds } = entry.date;
    return {
      id: entry.id,
      name: entry.name,
      date: new Date(seconds * 1000 + nanoseconds / 1e6),
      runningSeconds: Number(entry.vmClock) / 1e9,
      stateBytes: entry.vmStateBytes,
      ownBytes: entry.ownBytes,
      diskSize: entry.diskSize,
      machine: record && { emulator: record.emulator, ...record.machine },
      picture,
      loadable,
    };
  }
}

interface Standstill {
  /** Memory and disk would be of two moments. */
  refuseIfItRan(): void;
  leaveStopped(): Promise<void>;
}

interface SaveContext {
  readonly snapshots: RemoteSnapshots;
  readonly base: (BaseState & { readonly id: string }) | null;
  readonly options: SaveSnapshotOptions;
}

async function takePicture(picture: Picture | undefined): Promise<Uint8Array | null> {
  const bytes = typeof picture === 'function' ? await picture() : (picture ?? null);
  if (bytes === null || bytes.length <= MAXIMUM_PICTURE_BYTES) return bytes;
  const message = `the picture has ${bytes.length} bytes; the limit is ${MAXIMUM_PICTURE_BYTES}`;
  throw new Qcow2Error('BAD_ARGUMENT', message);
}
