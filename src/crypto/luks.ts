/**
 * Unlocking: which slots of an image a passphrase opens, and the key behind them. The work is bounded (see `key-limits.ts`):
 * the cheapest slots are tried first, and one that asks for more than what it may, or than what is left, is passed over, so that a
 * slot with an absurd count locks out nobody but its owner.
 */
import { Qcow2Error } from '../errors.js';
import { inWords, slotOrder, slotWork, workLimits, type WorkLimits } from './key-limits.js';
import { openKeySlot, throwIfAborted, type KeyTools } from './luks-key-slots.js';
import { activeSlots, type LuksVolume } from './luks-volume.js';
import { wipe } from './secrets.js';

export interface UnlockedKey {
  /** The caller's, to be wiped by it. */
  readonly key: Uint8Array<ArrayBuffer>;
  /** The slot that the passphrase opened. */
  readonly slot: number;
}

/**
 * The key of the image, from the cheapest slot that `passphrase` opens. Rejects with `WRONG_PASSPHRASE`, with
 * `LIMIT` where slots had to be passed over, and with `ABORTED`.
 */
export async function unlock(volume: LuksVolume, passphrase: Uint8Array, tools: KeyTools): Promise<UnlockedKey> {
  const { key, slots } = await openSlots(volume, passphrase, tools, { first: true });
  return { key, slot: slots[0]! };
}

export interface OpenedSlots {
  /** The caller's, to be wiped by it. */
  readonly key: Uint8Array<ArrayBuffer>;
  /** Those that the passphrase opens: at least one. Ascending. */
  readonly slots: readonly number[];
}

export interface SlotSearch {
  /** End with the cheapest slot that opens. Otherwise all are tried. */
  readonly first?: boolean;
  /** Try these slots, which are active. Default: all that are. */
  readonly among?: readonly number[];
}

/** Tries `passphrase` on slots. Rejects as `unlock` does; a search for all does so also when it could not try them all. */
export async function openSlots(
  volume: LuksVolume,
  passphrase: Uint8Array,
  tools: KeyTools,
  { first = false, among = activeSlots(volume.header) }: SlotSearch = {},
): Promise<OpenedSlots> {
  const { header, hash } = volume;
  const limits = workLimits(tools, hash);
  const { tried, passedOver } = slotOrder(header, hash, among, limits);
  const slots: number[] = [];
  let key: Uint8Array<ArrayBuffer> | null = null;
  try {
    for (const index of tried) {
      throwIfAborted(tools);
      const opened = await openKeySlot(volume, index, passphrase, tools);
      if (opened === null) continue;
      slots.push(index);
      wipe(key);
      key = opened;
      if (first) break;
    }
    if (passedOver.length > 0 && !(first && key !== null)) throw tooMuchWork(volume, passedOver, limits);
    if (key === null) throw wrongPassphrase(among);
    return { key, slots: slots.toSorted((one, other) => one - other) };
  } catch (error) {
    wipe(key);
    throw error;
  }
}

function tooMuchWork({ header, hash }: LuksVolume, slots: readonly number[], limits: WorkLimits): Qcow2Error {
  const asked = slots.map((index) => `slot ${index} for ${slotWork(header, hash, index)}`).join(', ');
  const problem = 'the passphrase could not be tried on all key slots';
  return new Qcow2Error('LIMIT', `${problem}: ${asked} HMACs of ${hash}; they may ask for ${inWords(limits)}`);
}

function wrongPassphrase(tried: readonly number[]): Qcow2Error {
  if (tried.length === 0) return new Qcow2Error('BAD_IMAGE', 'no key slot is in use: nothing can open the image');
  const which = tried.length === 1 ? `key slot ${tried[0]}, the only one tried` : `any of ${tried.length} key slots`;
  return new Qcow2Error('WRONG_PASSPHRASE', `the passphrase does not open ${which}`);
}
