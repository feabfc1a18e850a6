/**
 * The order in which changes of key slots reach the file. A write may be torn at 512 bytes, and of what lies between two
 * barriers any part may be lost (see `metadata/write-order.ts`). The invariants:
 *
 *  1. A slot that reads as active opens: its material and all of its entry are stable before its state says so.
 *  2. A slot's material is overwritten only after its state stably says that it is not active.
 *  3. At any moment some slot that was active before, or is meant to be afterwards, is active and whole. (Not where
 *     the caller forces away the last one.)
 *
 * An entry has 48 bytes and begins with its state. That of slot 6 lies across the end of the first sector:
 *
 *   208   256   304   352   400   448   496     512      544   592
 *   |  0  |  1  |  2  |  3  |  4  |  5  |   6    |   6   |  7  |
 *                                        state,   rest of its salt,
 *                                        iterations  material's place
 *
 *   fill:   material -> |barrier| -> (second piece -> |barrier|) -> piece with the state -> |barrier|
 *   clear:  piece with the state -> |barrier| -> second piece, random bytes over the material -> |barrier|
 *
 * The material is overwritten once. QEMU does it 40 times, which says nothing more to a file on flash, or on a copy-on-write
 * file system: there the salt, which goes first, and the 4000 stripes have to do.
 */
import { SECTOR_BYTES } from '../format/limits.js';
import {
  KEY_SLOT_BYTES,
  STRIPES,
  emptyKeySlot,
  encodeKeySlot,
  keySlotAt,
  type LuksHeader,
  type LuksKeySlot,
} from '../format/luks-header.js';
import type { MadeKeySlot } from './luks-key-slots.js';
import { freeSlot } from './luks-volume.js';
import { randomBytes } from './secrets.js';

/** In bytes from the start of the header area. */
export interface AreaWrite {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Groups of writes, with a barrier after each group. */
export type AreaPlan = readonly (readonly AreaWrite[])[];

/** Where the header area is written. `Storage` is one for an area at offset 0. */
export interface AreaWriter {
  write(offset: number, bytes: Uint8Array): void;
  /** The barrier. */
  flush(): void;
}

/** Stable when it returns. */
export function carryOut(plan: AreaPlan, area: AreaWriter): void {
  for (const group of plan) {
    for (const { offset, bytes } of group) area.write(offset, bytes);
    area.flush();
  }
}

/** Puts `made` into slot `index`, which is not active. */
export function fillSlot(header: LuksHeader, index: number, made: MadeKeySlot): AreaPlan {
  const { materialSector } = header.slots[index]!;
  const { iterations, salt, material } = made;
  const [statePiece, ...others] = entryPieces(index, { active: true, iterations, salt, materialSector });
  const materialWrite = { offset: materialSector * SECTOR_BYTES, bytes: material };
  return [[materialWrite], others, [statePiece]].filter((group) => group.length > 0);
}

/** Empties `slots`. */
export function clearSlots(header: LuksHeader, slots: readonly number[]): AreaPlan {
  const entries = slots.map((index) => entryPieces(index, emptyKeySlot(header.slots[index]!.materialSector)));
  const materials = slots.map((index) => ({
    offset: header.slots[index]!.materialSector * SECTOR_BYTES,
    bytes: randomBytes(header.keyBytes * STRIPES),
  }));
  return [entries.map(([statePiece]) => statePiece), [...entries.flatMap(([, ...others]) => others), ...materials]];
}

/**
 * Puts `made` into slot `index`, which is active. It is put into a free slot first, if there is one: until all is done
 * the new passphrase then opens that slot.
 */
export function replaceSlot(header: LuksHeader, index: number, made: MadeKeySlot): AreaPlan {
  const inPlace = [...clearSlots(header, [index]), ...fillSlot(header, index, made)];
  const spare = freeSlot(header);
  if (spare === null) return inPlace;
  return [...fillSlot(header, spare, made), ...inPlace, ...clearSlots(header, [spare])];
}

/** The writes of one entry, cut where a sector ends. The first one has the state. */
function entryPieces(index: number, slot: LuksKeySlot): [AreaWrite, ...AreaWrite[]] {
  const offset = keySlotAt(index);
  const bytes = encodeKeySlot(slot);
  const room = SECTOR_BYTES - (offset % SECTOR_BYTES);
  if (room >= KEY_SLOT_BYTES) return [{ offset, bytes }];
  return [
    { offset, bytes: bytes.subarray(0, room) },
    { offset: offset + room, bytes: bytes.subarray(room) },
  ];
}
