/**
 * The time stamp counter across a restore. v86 (0.5.462) keeps it as a shift against its clock, and reckons a new shift from
 * the counter as it reads, shifted already: right for the first restore, and wrong by the old shift for every later one.
 * The counter can then be behind what the guest has seen, and Linux stands still until it has caught up.
 *
 *   reads = clock - shift     set(x): shift = reads - x     so set(reads) makes the shift 0, and the next set is right
 */
import type { V86Emulator } from './v86-types.js';

/** Right before `restore_state`. Does nothing for a v86 that keeps its counter elsewhere. */
export function unshiftTimeStamps(emulator: V86Emulator): void {
  const cpu = emulator.v86?.cpu;
  if (!cpu?.store_current_tsc || !cpu.set_tsc || !cpu.current_tsc) return;
  cpu.store_current_tsc();
  const [low = 0, high = 0] = cpu.current_tsc;
  cpu.set_tsc(low, high);
}
