/**
 * How much work an image may ask for before it opens. Its iteration counts are 32-bit numbers that anybody can have
 * written: eight slots and the digest of the key would keep a processor busy for a day.
 *
 * Work is counted in HMACs: iterations times the digests that the derived bytes need. What QEMU 7.2 asks for, measured on
 * a machine with SHA instructions and `iter-time` at its default of 2000 ms: 17 million for a slot (SHA-256), and an eighth of
 * the time again, 2 million, for the digest of the key, which is made for each slot that is tried. That is 153 million
 * for a passphrase in the last of eight slots; 42 million with RIPEMD-160, 34 with SHA-512.
 *
 * There are two bounds: one slot that asks for too much locks out nobody but its owner, and all slots together, which is what a wrong
 * passphrase takes. SHA-384 and SHA-512 take about four times as long as the others, and may be asked for a quarter. Seconds at the
 * speeds that `key-derivation.ts` has:
 *
 *                    one slot                     all slots
 *   native hashes    2^28 = 268 million   47 s    2^30   3 minutes   in Chromium; SHA-512 45 s and 3 minutes
 *   in JavaScript    2^26 =  67 million   2 min.  2^28   7 minutes   with SHA-224; RIPEMD-160 3 and 13 minutes
 *
 * So all images that QEMU makes by default open with all eight slots in use, with and without WebCrypto, even those of a machine of
 * 1.7 times the speed; with WebCrypto also those of `iter-time=10000`. What is hostile is refused in bounded time, and never hangs a
 * page meanwhile: a derivation runs off the thread or yields, and an `AbortSignal` ends the search between two. Who knows better
 * passes `maxDerivationWork`.
 *
 * A slot is made within the bounds of opening (`checkOpensThen`), or its owner would be locked out by us.
 *
 * The other numbers of a LUKS header are bounded in `format/luks-header.ts`: stripes are 4000, a key has at most 64 bytes, so
 * the material of a slot has at most 256,000.
 */
import { Qcow2Error } from '../errors.js';
import { KEY_DIGEST_BYTES, type LuksHeader } from '../format/luks-header.js';
import { divideUp } from '../util/integers.js';
import { digestBytes, type HashName } from './hashes.js';
import type { KeyDerivation } from './key-derivation.js';

const NATIVE_SLOT_WORK = 2 ** 28;
const JAVASCRIPT_SLOT_WORK = 2 ** 26;
/** Slots of the largest size that may be tried. Of the usual size it is all eight. */
const LARGEST_SLOTS = 4;
/** What an HMAC takes, against one of SHA-256; of the others it is 1. */
const COSTS: Readonly<Partial<Record<HashName, number>>> = { sha384: 4, sha512: 4 };

export interface WorkLimit {
  readonly derivation: KeyDerivation;
  /** HMACs that trying one passphrase on all slots of an image may take, and so on one. Default: as above. */
  readonly maxDerivationWork?: number;
}

/** In HMACs. */
export interface WorkLimits {
  /** Of one slot, with the digest of the key. */
  readonly slot: number;
  /** Of all slots that are tried. */
  readonly total: number;
}

/** Throws `BAD_ARGUMENT` for a limit that is none. */
export function workLimits({ derivation, maxDerivationWork }: WorkLimit, hash: HashName): WorkLimits {
  if (maxDerivationWork === undefined) {
    const slot = (derivation.isNative(hash) ? NATIVE_SLOT_WORK : JAVASCRIPT_SLOT_WORK) / (COSTS[hash] ?? 1);
    return { slot, total: slot * LARGEST_SLOTS };
  }
  if (typeof maxDerivationWork === 'number' && maxDerivationWork > 0) {
    return { slot: maxDerivationWork, total: maxDerivationWork };
  }
  throw new Qcow2Error('BAD_ARGUMENT', `maxDerivationWork is ${String(maxDerivationWork)}; it must be more than 0`);
}

/** HMACs that deriving `length` bytes takes. */
export function derivationWork(hash: HashName, iterations: number, length: number): number {
  return iterations * divideUp(length, digestBytes(hash));
}

/** What a header says of the work of its slots. */
export type SlotCounts = Pick<LuksHeader, 'keyBytes' | 'keyDigestIterations'> & {
  readonly slots: readonly { readonly iterations: number }[];
};

/** HMACs that trying a passphrase on slot `index` takes: the slot's own, and those of the digest that tells if it fits. */
export function slotWork({ slots, keyBytes, keyDigestIterations }: SlotCounts, hash: HashName, index: number): number {
  const own = derivationWork(hash, slots[index]!.iterations, keyBytes);
  return own + derivationWork(hash, keyDigestIterations, KEY_DIGEST_BYTES);
}

/** Which slots are tried. */
export interface SlotOrder {
  /** The cheapest first, so that one with an absurd count keeps no other from being tried. */
  readonly tried: readonly number[];
  readonly passedOver: readonly number[];
}

/** @param among numbers of slots that are active. */
export function slotOrder(counts: SlotCounts, hash: HashName, among: readonly number[], limits: WorkLimits): SlotOrder {
  const byWork = among
    .map((index) => ({ index, work: slotWork(counts, hash, index) }))
    .toSorted((one, other) => one.work - other.work || one.index - other.index);
  const tried: number[] = [];
  const passedOver: number[] = [];
  let left = limits.total;
  for (const { index, work } of byWork) {
    const fits = work <= limits.slot && work <= left;
    (fits ? tried : passedOver).push(index);
    if (fits) left -= work;
  }
  return { tried, passedOver };
}

/** A slot that is to be made. */
export interface PlannedSlot {
  readonly slot: number;
  readonly iterations: number;
  /** The slots that are in use when it is there, itself too. */
  readonly active: readonly number[];
}

/**
 * Makes sure that the slot is tried when the image is opened, and that it keeps no other from being tried that is tried now. Throws
 * `LIMIT`, naming the field and its `value`.
 */
export function checkOpensThen(
  { header, hash }: { readonly header: LuksHeader; readonly hash: HashName },
  { slot, iterations, active }: PlannedSlot,
  limits: WorkLimits,
  iterTime: number,
): void {
  const others = active.filter((index) => index !== slot);
  const before = slotOrder(header, hash, others, limits).tried;
  const slots = header.slots.map((old, index) => (index === slot ? { iterations } : old));
  const then = { ...header, slots };
  const { tried } = slotOrder(then, hash, active, limits);
  if ([...before, slot].every((index) => tried.includes(index))) return;
  const work = slotWork(then, hash, slot);
  const all = active.reduce((sum, index) => sum + slotWork(then, hash, index), 0);
  const what = `with it the slot asks for ${work} HMACs of ${hash} and all slots for ${all}`;
  throw new Qcow2Error('LIMIT', `iterTime is ${iterTime}; ${what}; they may ask for ${inWords(limits)}`);
}

/** What error messages say of `limits`, and of who may change them. */
export function inWords({ slot, total }: WorkLimits): string {
  return `${slot} each and ${total} in all, unless maxDerivationWork allows more`;
}
