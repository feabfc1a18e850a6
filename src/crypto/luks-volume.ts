/**
 * LUKS volume: the header of an encrypted image and the key material of its slots, in memory. Reading it is synchronous and comes
 * first, because it may fault (`NotResident`); what is then done with passphrases is asynchronous and reads nothing more.
 */
import { LUKS_HEADER_BYTES, STRIPES, decodeLuksHeader, type LuksHeader } from '../format/luks-header.js';
import { SECTOR_BYTES } from '../format/limits.js';
import type { HashName } from './hashes.js';
import { cipherOf, hashOf, type CipherSpec } from './luks-cipher.js';

export interface LuksVolume {
  readonly header: LuksHeader;
  /** Of the guest's data and of the key material alike. */
  readonly cipher: CipherSpec;
  readonly hash: HashName;
  /** The key material of each slot as it lies in the image, encrypted; null for slots that are not active. */
  readonly materials: readonly (Uint8Array<ArrayBuffer> | null)[];
}

/** Fills all of `target` from `offset` of the header area. */
export type AreaReader = (offset: number, target: Uint8Array) => void;

/** Throws `BAD_IMAGE` or `UNSUPPORTED`. @param areaBytes bytes of the header area. */
export function readLuksVolume(read: AreaReader, areaBytes: number): LuksVolume {
  const bytes = new Uint8Array(LUKS_HEADER_BYTES);
  read(0, bytes);
  const header = decodeLuksHeader(bytes, areaBytes);
  const cipher = cipherOf(header);
  const hash = hashOf(header);
  const materials = header.slots.map(({ active, materialSector }) => {
    if (!active) return null;
    const material = new Uint8Array(header.keyBytes * STRIPES);
    read(materialSector * SECTOR_BYTES, material);
    return material;
  });
  return { header, cipher, hash, materials };
}

/** The numbers of the slots that hold a key. */
export function activeSlots({ slots }: LuksHeader): number[] {
  return slots.flatMap(({ active }, index) => (active ? [index] : []));
}

/** The first slot that holds none, or null. */
export function freeSlot({ slots }: LuksHeader): number | null {
  const index = slots.findIndex(({ active }) => !active);
  return index < 0 ? null : index;
}
