/**
 * Key slots: the passphrases of a LUKS image, added, changed and erased while it is open or locked (QEMU: `qemu-img amend -o
 * encrypt.*`). The data are not touched: every passphrase opens the same key.
 *
 *   read the header and the slots  -->  derive keys  -->  change the file
 *   in turn, at once                    seconds           in turn, at once
 *
 * Deriving keys takes seconds, and the disk works on meanwhile. The file is changed in one go at the end, in an order that
 * never loses the last good slot (`crypto/key-slot-writes.ts`). Whatever has become of the image by then is looked at before: one
 * that is closed, inactive, read-only or poisoned refuses, and a header that somebody else has changed is left alone.
 */
import { carryOut, type AreaPlan } from '../crypto/key-slot-writes.js';
import { addKeySlot, changeKeySlot, eraseKeySlots } from '../crypto/luks-amend.js';
import type { LuksVolume } from '../crypto/luks-volume.js';
import { Qcow2Error } from '../errors.js';
import { cryptoAreaOf } from '../format/header.js';
import { encodeLuksHeader } from '../format/luks-header.js';
import { readLuksHeaderOf } from '../image/luks-header-of.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import { keyTools, readVolume, withPassphrase, type Passphrase, type UnlockOptions } from '../image/unlock-image.js';
import { settle } from '../storage/not-resident.js';
import { equalAt } from '../util/bytes.js';

export interface KeySlotOptions extends UnlockOptions {
  /**
   * Where several use the image: carries out `work`, which uses it, when it is nobody else's turn. Default: at once, as is right
   * where nothing else is ever half done when this is called.
   */
  readonly inTurn?: <T>(work: () => T | Promise<T>) => Promise<T>;
}

export interface NewPassphraseRequest {
  /** One that opens the image now. */
  readonly passphrase: Passphrase;
  readonly newPassphrase: Passphrase;
  /** Milliseconds that opening with the new one is to take on this machine. Default 2000. */
  readonly iterTime?: number;
}

export interface AddPassphraseRequest extends NewPassphraseRequest {
  /** Default: the first that is free. */
  readonly slot?: number;
  /** Overwrites a slot in use: who knows but its passphrase is locked out. */
  readonly force?: boolean;
}

/**
 * A further passphrase. Resolves with its slot. Rejects with `WRONG_PASSPHRASE`, `BAD_ARGUMENT` for a slot that can't be taken,
 * `LIMIT` where all are in use, and as a write does.
 */
export function addPassphrase(
  image: Qcow2Image,
  { passphrase, newPassphrase, ...request }: AddPassphraseRequest,
  options: KeySlotOptions = {},
): Promise<number> {
  return withBoth(passphrase, newPassphrase, async (old, next) => {
    const volume = await readOf(image, options);
    const added = await addKeySlot(volume, { ...request, passphrase: old, newPassphrase: next }, keyTools(options));
    await change(image, volume, added.plan, options);
    return added.slot;
  });
}

/** A passphrase in place of another, which opens nothing afterwards. Needs a free slot. Resolves and rejects as above. */
export function changePassphrase(
  image: Qcow2Image,
  { passphrase, newPassphrase, ...request }: NewPassphraseRequest,
  options: KeySlotOptions = {},
): Promise<number> {
  return withBoth(passphrase, newPassphrase, async (old, next) => {
    const volume = await readOf(image, options);
    const added = await changeKeySlot(volume, { ...request, passphrase: old, newPassphrase: next }, keyTools(options));
    await change(image, volume, added.plan, options);
    return added.slot;
  });
}

export interface ErasePassphraseRequest {
  /** The slot to erase. */
  readonly slot?: number;
  /** Erases the slots that this opens; or makes sure that it opens `slot`. */
  readonly passphrase?: Passphrase;
  /** Also the last one, after which nothing can read the image again. */
  readonly force?: boolean;
}

/** Erases a slot, or all that a passphrase opens. Rejects with `WRONG_PASSPHRASE`, `BAD_ARGUMENT` for the last one, and as above. */
export async function erasePassphrase(
  image: Qcow2Image,
  { passphrase, ...request }: ErasePassphraseRequest,
  options: KeySlotOptions = {},
): Promise<void> {
  const volume = await readOf(image, options);
  const erase = async (bytes?: Uint8Array): Promise<void> => {
    const named = bytes === undefined ? request : { ...request, passphrase: bytes };
    const plan = await eraseKeySlots(volume, named, keyTools(options));
    await change(image, volume, plan, options);
  };
  await (passphrase === undefined ? erase() : withPassphrase(passphrase, erase));
}

function withBoth<T>(
  passphrase: Passphrase,
  newPassphrase: Passphrase,
  use: (old: Uint8Array, next: Uint8Array) => Promise<T>,
): Promise<T> {
  return withPassphrase(passphrase, (old) => withPassphrase(newPassphrase, (next) => use(old, next), 'newPassphrase'));
}

/** Throws what keeps the image from being changed before anything is derived. */
function readOf(image: Qcow2Image, { inTurn = atOnce }: KeySlotOptions): Promise<LuksVolume> {
  return inTurn(() => {
    image.changeableTables();
    return settle(() => readVolume(image.storage, image.header));
  });
}

function change(image: Qcow2Image, planned: LuksVolume, plan: AreaPlan, { inTurn = atOnce }: KeySlotOptions) {
  return inTurn(() => changeNow(image, planned, plan));
}

/** Nothing comes in between: it is one synchronous piece. */
function changeNow(image: Qcow2Image, planned: LuksVolume, plan: AreaPlan): void {
  const { storage, header, writable } = image.changeableTables();
  const current = readLuksHeaderOf(storage, header.value);
  const { offset: start, length } = cryptoAreaOf(header.value)!;
  if (!equalAt(encodeLuksHeader(current), 0, encodeLuksHeader(planned.header))) {
    throw new Qcow2Error('BAD_ARGUMENT', 'the key slots have been changed meanwhile; nothing was done, try again');
  }
  writable.guard.check(start, length, 'the encryption header', 'encryption');
  header.beforeChange();
  carryOut(plan, {
    write: (offset, bytes) => storage.write(start + offset, bytes),
    flush: () => storage.flush(),
  });
}

async function atOnce<T>(work: () => T | Promise<T>): Promise<T> {
  return work();
}
