/**
 * How much work an image may ask for before it opens. Its iteration counts are 32-bit numbers that anybody can have
 * written: eight slots and the digest of the key would keep a processor busy for a day.
 *
 * Work is counted in HMACs: iterations times the digests that the derived bytes need. What QEMU 7.2 asks for, measured on
 * a machine with SHA instructions and `iter-time` at its default of 2000 ms: 17 million for a slot (SHA-256), and an eighth of
 * the time again, 2 million, for the digest of the key, which is made for each slot that is tried. That is 153 million
 * for a passphrase in the last of eight slots; 42 million with RIPEMD-160, 34 with SHA-512.
 *
 *   native hashes    2^28 = 268 million   47 s with SHA-256 in Chromium, 3 minutes with SHA-512 (measured)
 *   in JavaScript    2^26 =  67 million   2 minutes with SHA-224, 3 with RIPEMD-160
 *
 * So all images that QEMU makes by default are opened, even those of a machine of nearly twice the speed, and what is
 * hostile is refused in bounded time. It never hangs a page: a derivation runs off the thread or yields, and an `AbortSignal`
 * ends the search between two. Who knows better passes `maxDerivationWork`.
 *
 * The other numbers of a LUKS header are bounded in `format/luks-header.ts`: stripes are 4000, a key has at most 64 bytes, so
 * the material of a slot has at most 256,000.
 */
import { KEY_DIGEST_BYTES, type LuksHeader } from '../format/luks-header.js';
import { divideUp } from '../util/integers.js';
import { digestBytes, type HashName } from './hashes.js';
import type { KeyDerivation } from './key-derivation.js';

const MAX_NATIVE_WORK = 2 ** 28;
const MAX_WORK_IN_JAVASCRIPT = 2 ** 26;

export interface WorkLimit {
  readonly derivation: KeyDerivation;
  /** HMACs that trying one passphrase on all slots of an image may take. Default: as above. */
  readonly maxDerivationWork?: number;
}

/** HMACs that trying one passphrase on all slots of an image may take. */
export function maxWork({ derivation, maxDerivationWork }: WorkLimit, hash: HashName): number {
  return maxDerivationWork ?? (derivation.isNative(hash) ? MAX_NATIVE_WORK : MAX_WORK_IN_JAVASCRIPT);
}

/** HMACs that deriving `length` bytes takes. */
export function derivationWork(hash: HashName, iterations: number, length: number): number {
  return iterations * divideUp(length, digestBytes(hash));
}

/** HMACs that trying a passphrase on slot `index` takes: the slot's own, and those of the digest that tells if it fits. */
export function slotWork(header: LuksHeader, hash: HashName, index: number): number {
  const own = derivationWork(hash, header.slots[index]!.iterations, header.keyBytes);
  return own + derivationWork(hash, header.keyDigestIterations, KEY_DIGEST_BYTES);
}
