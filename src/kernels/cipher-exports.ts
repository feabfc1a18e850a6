/**
 * What the WASM module exports for the sector ciphers; `assembly/sector-modes.ts` has the code.
 *
 * `context` is the address of a context (`assembly/sector-context.ts`), `data` that of `sectors` sectors, worked on in place.
 * `low` and `high` are the words of the first sector's number, `iv` is an index into `IV_KINDS`.
 */

/** The functions; `CipherExports` has their signatures. */
export const CIPHER_EXPORTS = [
  'aesSetKey',
  'aesEcbEncrypt',
  'aesEcbDecrypt',
  'aesCbcEncrypt',
  'aesCbcDecrypt',
  'aesCbcUnchain',
  'aesCtr',
  'aesXtsEncrypt',
  'aesXtsDecrypt',
  'aesIvs',
  'addSectorTweaks',
] as const satisfies readonly (keyof CipherExports)[];

/** A mode with IVs, in one direction. */
type SectorsFunction = (context: number, data: number, sectors: number, low: number, high: number, iv: number) => void;

export interface CipherExports {
  /** Expands the AES key of `keyBytes` at `key` into slot `slot`: 0 for the data, 1 for tweaks (XTS), 2 for IVs (ESSIV). */
  aesSetKey(context: number, slot: number, key: number, keyBytes: number): void;
  aesEcbEncrypt(context: number, data: number, sectors: number): void;
  aesEcbDecrypt(context: number, data: number, sectors: number): void;
  readonly aesCbcEncrypt: SectorsFunction;
  readonly aesCbcDecrypt: SectorsFunction;
  /** What CBC decryption is after the cipher: adds to each block at `plain` the block of `cipher` before it, or the IV. */
  aesCbcUnchain(
    context: number,
    plain: number,
    cipher: number,
    sectors: number,
    low: number,
    high: number,
    iv: number,
  ): void;
  /** Both directions. */
  readonly aesCtr: SectorsFunction;
  readonly aesXtsEncrypt: SectorsFunction;
  readonly aesXtsDecrypt: SectorsFunction;
  /** Writes the IVs of the sectors to `data`, 16 bytes each; what comes after them, up to a multiple of 128 bytes, may change. */
  readonly aesIvs: SectorsFunction;
  /** Adds to the sectors the tweaks of all their blocks, which follow from the first one of each at `firstTweaks`. */
  addSectorTweaks(data: number, sectors: number, firstTweaks: number): void;
}
