/**
 * Adding, changing and erasing passphrases, with the guards of QEMU 7.2 (`qemu-img amend -o encrypt.state=...`). Nothing is
 * written here: each function makes a plan, which `carryOut` of `key-slot-writes.ts` brings to the file. Afterwards the
 * volume is to be read again.
 */
import { Qcow2Error } from '../errors.js';
import { KEY_SLOTS, type LuksHeader } from '../format/luks-header.js';
import { DEFAULT_ITER_TIME, iterationsFor } from './iteration-count.js';
import { clearSlots, fillSlot, replaceSlot, type AreaPlan } from './key-slot-writes.js';
import { checkOpensThen, workLimits } from './key-limits.js';
import { openSlots } from './luks.js';
import { makeKeySlot, throwIfAborted, type KeyTools, type MadeKeySlot } from './luks-key-slots.js';
import { activeSlots, freeSlot, type LuksVolume } from './luks-volume.js';
import { wipe } from './secrets.js';

const LAST_KEY = 'without it nothing reads the image again, and only force erases it';

export interface NewPassphrase {
  /** One that opens the image now. */
  readonly passphrase: Uint8Array;
  /** May be the same: then it gets a slot with a new salt and new iterations. */
  readonly newPassphrase: Uint8Array;
  /** Milliseconds that opening the new slot is to take on this machine. Default 2000. */
  readonly iterTime?: number;
}

export interface AddedSlot {
  readonly plan: AreaPlan;
  /** The slot of the new passphrase. */
  readonly slot: number;
}

/**
 * A further passphrase, in the slot named or in the first free one. A slot in use is overwritten only with `force`: who
 * knows but its passphrase is locked out. Rejects with `BAD_ARGUMENT`, `WRONG_PASSPHRASE`, `ABORTED`, and with `LIMIT` where all
 * slots are in use, or where opening the image would take more than it may afterwards.
 */
export async function addKeySlot(
  volume: LuksVolume,
  request: NewPassphrase & { readonly slot?: number; readonly force?: boolean },
  tools: KeyTools,
): Promise<AddedSlot> {
  const { header } = volume;
  const { slot = firstFree(header), force = false } = request;
  checkSlotNumber(slot);
  const inUse = header.slots[slot]!.active;
  if (inUse && !force) {
    throw new Qcow2Error('BAD_ARGUMENT', `key slot ${slot} is in use; erase it first, or overwrite it with force`);
  }
  const { made } = await makeSlotFor(volume, request, tools, { slot });
  return { plan: inUse ? replaceSlot(header, slot, made) : fillSlot(header, slot, made), slot };
}

/**
 * A new passphrase in place of another: it gets a free slot, and then all slots that the old one opens are erased. Rejects as
 * `addKeySlot` does.
 */
export async function changeKeySlot(volume: LuksVolume, request: NewPassphrase, tools: KeyTools): Promise<AddedSlot> {
  const { header } = volume;
  const slot = firstFree(header);
  const { made, opened } = await makeSlotFor(volume, request, tools, { slot, replace: true });
  return { plan: [...fillSlot(header, slot, made), ...clearSlots(header, opened)], slot };
}

export interface EraseRequest {
  /** The slot to erase. */
  readonly slot?: number;
  /** Erase the slots that this opens, or make sure that it opens `slot`. */
  readonly passphrase?: Uint8Array;
  /**
   * Erase also the last slot, after which nothing can read the image again, or one that is not in use, whose material is
   * then overwritten once more.
   */
  readonly force?: boolean;
}

/** Erases a slot, or all that a passphrase opens. Rejects with `BAD_ARGUMENT`, or as `unlock` does. */
export async function eraseKeySlots(volume: LuksVolume, request: EraseRequest, tools: KeyTools): Promise<AreaPlan> {
  const { header } = volume;
  const { slot, passphrase, force = false } = request;
  if (slot !== undefined) checkErasable(header, request, slot);
  if (passphrase === undefined) {
    if (slot !== undefined) return clearSlots(header, [slot]);
    throw new Qcow2Error('BAD_ARGUMENT', 'to erase key slots, name one, or give the passphrase that opens them');
  }
  const { key, slots } = await openSlots(volume, passphrase, tools, slot === undefined ? {} : { among: [slot] });
  wipe(key);
  if (!force && slots.length === activeSlots(header).length) {
    throw new Qcow2Error('BAD_ARGUMENT', `the passphrase opens every key slot in use; ${LAST_KEY}`);
  }
  return clearSlots(header, slots);
}

function checkErasable(header: LuksHeader, { passphrase, force = false }: EraseRequest, slot: number): void {
  checkSlotNumber(slot);
  const active = activeSlots(header);
  if (!active.includes(slot)) {
    if (force && passphrase === undefined) return;
    throw new Qcow2Error('BAD_ARGUMENT', `key slot ${slot} is not in use`);
  }
  if (active.length === 1 && !force) {
    throw new Qcow2Error('BAD_ARGUMENT', `key slot ${slot} is the only one in use; ${LAST_KEY}`);
  }
}

/**
 * Unlocks the image, and makes slot `slot` for its key and the new passphrase. `replace`: finds all slots that the old one opens,
 * which are to be erased.
 */
async function makeSlotFor(
  volume: LuksVolume,
  { passphrase, newPassphrase, iterTime = DEFAULT_ITER_TIME }: NewPassphrase,
  tools: KeyTools,
  { slot, replace = false }: { readonly slot: number; readonly replace?: boolean },
): Promise<{ made: MadeKeySlot; opened: readonly number[] }> {
  const { header, cipher, hash } = volume;
  const { keyBytes, keyDigestIterations } = header;
  const { key, slots } = await openSlots(volume, passphrase, tools, { first: !replace });
  try {
    throwIfAborted(tools);
    const limits = workLimits(tools, hash);
    const wanted = { hash, keyBytes, keyDigestIterations, iterTime, maxWork: limits.slot };
    const { slot: iterations } = await iterationsFor(wanted, tools);
    const kept = activeSlots(header).filter((index) => index !== slot && !(replace && slots.includes(index)));
    checkOpensThen(volume, { slot, iterations, active: [...kept, slot] }, limits, iterTime);
    const request = { key, passphrase: newPassphrase, iterations, cipher, hash };
    return { made: await makeKeySlot(request, tools), opened: slots };
  } finally {
    wipe(key);
  }
}

function firstFree(header: LuksHeader): number {
  const slot = freeSlot(header);
  if (slot !== null) return slot;
  throw new Qcow2Error('LIMIT', `all ${KEY_SLOTS} key slots are in use; erase one first`);
}

function checkSlotNumber(slot: number): void {
  if (Number.isInteger(slot) && slot >= 0 && slot < KEY_SLOTS) return;
  throw new Qcow2Error('BAD_ARGUMENT', `the key slot is ${slot}; it must be 0 to ${KEY_SLOTS - 1}`);
}
