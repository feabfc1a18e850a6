/**
 * Unlocking: which slots of an image a passphrase opens, and the key behind them. The work is bounded (see `key-limits.ts`):
 * slots are tried in their order, and one that asks for more than what is left is passed over, so that a slot with an
 * absurd count locks out nobody but its owner.
 */
import { Qcow2Error } from '../errors.js';
import { maxWork, slotWork } from './key-limits.js';
import { openKeySlot, type KeyTools } from './luks-key-slots.js';
import { activeSlots, type LuksVolume } from './luks-volume.js';
import { wipe } from './secrets.js';

export interface UnlockedKey {
  /** The caller's, to be wiped by it. */
  readonly key: Uint8Array<ArrayBuffer>;
  /** The slot that the passphrase opened. */
  readonly slot: number;
}

/**
 * The key of the image, from the first slot that `passphrase` opens. Rejects with `WRONG_PASSPHRASE`, with
 * `LIMIT` where slots had to be passed over, and with `ABORTED`.
 */
export async function unlock(volume: LuksVolume, passphrase: Uint8Array, tools: KeyTools): Promise<UnlockedKey> {
  const { key, slots } = await openSlots(volume, passphrase, tools, { first: true });
  return { key, slot: slots[0]! };
}

export interface OpenedSlots {
  /** The caller's, to be wiped by it. */
  readonly key: Uint8Array<ArrayBuffer>;
  /** Those that the passphrase opens: at least one. */
  readonly slots: readonly number[];
}

export interface SlotSearch {
  /** End with the first slot that opens. Otherwise all are tried. */
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
  const limit = maxWork(tools, hash);
  const slots: number[] = [];
  const passedOver: number[] = [];
  let key: Uint8Array<ArrayBuffer> | null = null;
  let left = limit;
  try {
    for (const index of among) {
      throwIfAborted(tools.signal);
      const work = slotWork(header, hash, index);
      if (work > left) {
        passedOver.push(index);
        continue;
      }
      left -= work;
      const opened = await openKeySlot(volume, index, passphrase, tools);
      if (opened === null) continue;
      slots.push(index);
      wipe(key);
      key = opened;
      if (first) break;
    }
    if (passedOver.length > 0 && !(first && key !== null)) throw tooMuchWork(volume, passedOver, limit);
    if (key === null) throw wrongPassphrase(among);
    return { key, slots };
  } catch (error) {
    wipe(key);
    throw error;
  }
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted !== true) return;
  throw new Qcow2Error('ABORTED', 'unlocking was ended by its AbortSignal', { cause: signal.reason });
}

function tooMuchWork({ header, hash }: LuksVolume, slots: readonly number[], limit: number): Qcow2Error {
  const asked = slots.map((index) => `slot ${index} asks for ${slotWork(header, hash, index)}`).join(', ');
  return new Qcow2Error('LIMIT', `trying the passphrase on all key slots may take ${limit} HMACs in all; ${asked}`);
}

function wrongPassphrase(tried: readonly number[]): Qcow2Error {
  if (tried.length === 0) return new Qcow2Error('BAD_IMAGE', 'no key slot is in use: nothing can open the image');
  const which = tried.length === 1 ? `key slot ${tried[0]}, the only one tried` : `any of ${tried.length} key slots`;
  return new Qcow2Error('WRONG_PASSPHRASE', `the passphrase does not open ${which}`);
}
