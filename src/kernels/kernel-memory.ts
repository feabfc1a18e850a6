/**
 * The size of the memory of a `Kernels`: scratch, slots, and a margin after the last slot.
 *
 * The WASM searches read a refcount block in groups of 64 entries, at most 512 bytes, and mask out what was not asked
 * for. The margin keeps such a read inside the memory when slots are smaller than a group.
 */
import { assert } from '../util/assert.js';
import { SCRATCH_BYTES } from './kernels.js';

/** Bytes readable after the last slot. */
export const MARGIN_BYTES = 512;

export interface KernelsShape {
  readonly slotBytes: number;
  readonly slots: number;
}

/** Bytes a memory of this shape needs at least. */
export function kernelMemoryBytes({ slotBytes, slots }: KernelsShape): number {
  assert(Number.isInteger(slotBytes) && slotBytes > 0 && slotBytes % 16 === 0, `slotBytes ${slotBytes}`);
  assert(Number.isInteger(slots) && slots >= 0, `slots ${slots}`);
  return SCRATCH_BYTES + slotBytes * slots + MARGIN_BYTES;
}
