/**
 * The memory of a sector cipher, which the host lays out: one context, at an address of its choice.
 *
 *   0       IVs    the first tweaks, or the IVs, of up to 32 sectors
 *   512     blocks one sector: its tweaks, its key stream, or what its blocks are chained to
 *   1024    slot 0: the key of the data
 *   3072    slot 1: the key of the tweaks, in XTS
 *   5120    slot 2: the key of the IVs, in ESSIV
 *   7168
 *
 * All of it is secret. The host zeroes it when the disk is closed.
 */
import { SLOT_BYTES } from './aes-keys';

export const SECTOR_BYTES: usize = 512;
/** Sectors that are worked on side by side: as many as a sector has blocks. */
export const BATCH: usize = 32;

const BLOCKS: usize = SECTOR_BYTES;
const SLOTS: usize = BLOCKS + SECTOR_BYTES;

export function ivsOf(context: usize): usize {
  return context;
}

export function blocksOf(context: usize): usize {
  return context + BLOCKS;
}

export function slotOf(context: usize, slot: usize): usize {
  return context + SLOTS + slot * SLOT_BYTES;
}

export function dataKeyOf(context: usize): usize {
  return slotOf(context, 0);
}

export function tweakKeyOf(context: usize): usize {
  return slotOf(context, 1);
}

export function ivKeyOf(context: usize): usize {
  return slotOf(context, 2);
}
