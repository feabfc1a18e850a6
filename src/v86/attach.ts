/**
 * Joins a running emulator and its disk: installs the flush hook where v86 has the seam, runs the durability policy, and
 * offers what an embedder needs around both (flush, quiesce, counters).
 *
 *   const disk = remoteDisk(remote);
 *   const emulator = new V86({ hda: disk, ... });
 *   const attachment = await attach(emulator, disk);
 */
import { Qcow2Error } from '../errors.js';
import { installAtaHook } from './ata-hook.js';
import { DurabilityPolicy, type DurabilityOptions } from './durability.js';
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
  /** Stops the emulator and resolves once no request is in flight: the moment to save a machine state or close the disk. */
  quiesce(): Promise<void>;
  /** Ends the durability policy after one last flush. The disk stays open. */
  detach(): Promise<void>;
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
  const detach = async (): Promise<void> => {
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
    quiesce: async () => {
      await emulator.stop();
      await disk.whenIdle();
    },
    detach,
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
