/**
 * LUKS header: what an image is encrypted with, and eight slots, each of which holds the key behind one passphrase (LUKS
 * On-Disk Format 1.2.3, "PHDR layout"). Pure. In qcow2 the area that `crypto-extension.ts` names begins with it, and all
 * its places are counted from there; the payload's place is of no use, because guest data lies in clusters.
 *
 *     0 "LUKS" 0xba 0xbe    6 version (2)      8 cipher name (32)   40 cipher mode (32)   72 hash (32)
 *   104 payload, in sectors                  108 bytes of the key
 *   112 digest of the key (20)               132 its salt (32)     164 its iterations
 *   168 uuid (40)                            208 eight key slots (48 each)           592: the end
 *
 *   A key slot, at 208 + 48 x its number:
 *     0 state (0x00ac71f3 active, 0x0000dead not)     4 iterations     8 salt (32)
 *    40 its key material, in sectors                 44 stripes, always 4000 (see `crypto/anti-forensic.ts`)
 *
 * Slot 6 lies across the end of the first sector; `crypto/key-slot-writes.ts` says what that means for its changes.
 *
 * What is read here has been checked as QEMU 7.2 does: the material of the slots lies behind the header, before the payload, apart
 * from each other, and inside the area. What the names mean is said in `crypto/luks-cipher.ts`.
 */
import { Qcow2Error } from '../errors.js';
import { viewOf } from '../util/big-endian.js';
import { alignUp, divideUp, hex } from '../util/integers.js';
import { SECTOR_BYTES } from './limits.js';

/** Bytes of the header, key slots included. */
export const LUKS_HEADER_BYTES = 592;
export const KEY_SLOTS = 8;
/** Copies that the anti-forensic split makes of a key. QEMU knows no other number. */
export const STRIPES = 4000;
/** AES-256 in XTS has two keys. */
export const MAX_KEY_BYTES = 64;
export const SALT_BYTES = 32;
/** Bytes of the digest by which a key is known. */
export const KEY_DIGEST_BYTES = 20;
/** Bytes of a slot's entry in the header. */
export const KEY_SLOT_BYTES = 4 + 4 + SALT_BYTES + 4 + 4;

const MAGIC = [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe];
const VERSION = 1;
const NAME_BYTES = 32;
const UUID_BYTES = 40;
const AT = {
  version: 6,
  cipherName: 8,
  cipherMode: 40,
  hash: 72,
  payload: 104,
  keyBytes: 108,
  digest: 112,
  salt: 132,
  iterations: 164,
  uuid: 168,
  slots: 208,
} as const;
const SLOT_AT = { state: 0, iterations: 4, salt: 8, material: 40, stripes: 44 } as const;
const SLOT_ACTIVE = 0x00ac_71f3;
const SLOT_INACTIVE = 0x0000_dead;
/** Key material begins at 4096 and each slot's at a multiple of it. */
const MATERIAL_ALIGNMENT_SECTORS = 8;

export interface LuksKeySlot {
  readonly active: boolean;
  /** Of PBKDF2. 0 where the slot is not active. */
  readonly iterations: number;
  readonly salt: Uint8Array;
  /** Where its key material begins, in sectors from the start of the area. */
  readonly materialSector: number;
}

export interface LuksHeader {
  /** `aes`. */
  readonly cipherName: string;
  /** `xts-plain64`, `cbc-essiv:sha256`, ... */
  readonly cipherMode: string;
  /** Of PBKDF2 and of the anti-forensic split: `sha256`, ... */
  readonly hash: string;
  /** Where guest data would begin in a file of its own, in sectors. */
  readonly payloadSector: number;
  /** Bytes of the key: 1 to `MAX_KEY_BYTES`. */
  readonly keyBytes: number;
  readonly keyDigest: Uint8Array;
  readonly keyDigestSalt: Uint8Array;
  readonly keyDigestIterations: number;
  readonly uuid: string;
  /** All `KEY_SLOTS`. */
  readonly slots: readonly LuksKeySlot[];
}

/** Where the entry of slot `index` lies. */
export function keySlotAt(index: number): number {
  return AT.slots + index * KEY_SLOT_BYTES;
}

/** Sectors of the key material of one slot. */
export function materialSectors(keyBytes: number): number {
  return divideUp(keyBytes * STRIPES, SECTOR_BYTES);
}

/** Where QEMU puts the material of slot `index` of a new header; of `KEY_SLOTS`, the payload. In sectors. */
export function newMaterialSector(index: number, keyBytes: number): number {
  const stride = alignUp(materialSectors(keyBytes), MATERIAL_ALIGNMENT_SECTORS);
  return MATERIAL_ALIGNMENT_SECTORS + index * stride;
}

/**
 * Decodes and checks the header.
 * @param bytes the first `LUKS_HEADER_BYTES` of the area, or more.
 * @param areaBytes bytes of the whole area.
 * Throws `BAD_IMAGE`, or `UNSUPPORTED` for another version.
 */
export function decodeLuksHeader(bytes: Uint8Array, areaBytes: number): LuksHeader {
  if (bytes.length < LUKS_HEADER_BYTES) {
    refuse(`the LUKS header is cut short: it has ${bytes.length} bytes, it needs ${LUKS_HEADER_BYTES}`);
  }
  if (MAGIC.some((byte, index) => bytes[index] !== byte)) {
    refuse('the encryption header is no LUKS header: the first six bytes are not "LUKS\\xba\\xbe"');
  }
  const view = viewOf(bytes);
  const version = view.getUint16(AT.version);
  if (version !== VERSION) {
    throw new Qcow2Error('UNSUPPORTED', `the LUKS version is ${version}; only version ${VERSION} is supported`);
  }
  const header: LuksHeader = {
    cipherName: getName(bytes, AT.cipherName, 'cipher name'),
    cipherMode: getName(bytes, AT.cipherMode, 'cipher mode'),
    hash: getName(bytes, AT.hash, 'hash'),
    payloadSector: view.getUint32(AT.payload),
    keyBytes: view.getUint32(AT.keyBytes),
    keyDigest: bytes.slice(AT.digest, AT.digest + KEY_DIGEST_BYTES),
    keyDigestSalt: bytes.slice(AT.salt, AT.salt + SALT_BYTES),
    keyDigestIterations: view.getUint32(AT.iterations),
    uuid: textOf(bytes.subarray(AT.uuid, AT.uuid + UUID_BYTES)),
    slots: Array.from({ length: KEY_SLOTS }, (_, index) => decodeKeySlot(bytes, index)),
  };
  checkLuksHeader(header, areaBytes);
  return header;
}

function decodeKeySlot(bytes: Uint8Array, index: number): LuksKeySlot {
  const at = keySlotAt(index);
  const view = viewOf(bytes);
  const state = view.getUint32(at + SLOT_AT.state);
  if (state !== SLOT_ACTIVE && state !== SLOT_INACTIVE) {
    const limits = `${hex(SLOT_ACTIVE)} (active) or ${hex(SLOT_INACTIVE)}`;
    refuse(`the state of LUKS key slot ${index} is ${hex(state)}; it must be ${limits}`);
  }
  const stripes = view.getUint32(at + SLOT_AT.stripes);
  if (stripes !== STRIPES) refuse(`the stripes of LUKS key slot ${index} are ${stripes}; they must be ${STRIPES}`);
  return {
    active: state === SLOT_ACTIVE,
    iterations: view.getUint32(at + SLOT_AT.iterations),
    salt: bytes.slice(at + SLOT_AT.salt, at + SLOT_AT.salt + SALT_BYTES),
    materialSector: view.getUint32(at + SLOT_AT.material),
  };
}

function checkLuksHeader(header: LuksHeader, areaBytes: number): void {
  const { keyBytes, payloadSector, slots } = header;
  if (keyBytes === 0 || keyBytes > MAX_KEY_BYTES) {
    refuse(`the LUKS key has ${keyBytes} bytes; it must have 1 to ${MAX_KEY_BYTES}`);
  }
  if (header.keyDigestIterations === 0) refuse('the iterations of the LUKS key digest are 0; they must be at least 1');
  if (payloadSector < MATERIAL_ALIGNMENT_SECTORS) {
    refuse(`the LUKS payload begins at sector ${payloadSector}; it must be ${MATERIAL_ALIGNMENT_SECTORS} or more`);
  }
  const endSector = Math.min(payloadSector, Math.floor(areaBytes / SECTOR_BYTES));
  slots.forEach((slot, index) => {
    if (slot.active && slot.iterations === 0) {
      refuse(`the iterations of LUKS key slot ${index} are 0; they must be at least 1`);
    }
    checkMaterial(header, index, endSector);
  });
}

/** The material of slot `index` lies between the header and `endSector`, and meets that of no slot after it. */
function checkMaterial({ keyBytes, slots }: LuksHeader, index: number, endSector: number): void {
  const sectors = materialSectors(keyBytes);
  const start = slots[index]!.materialSector;
  if (start < MATERIAL_ALIGNMENT_SECTORS || start + sectors > endSector) {
    const limits = `from sector ${MATERIAL_ALIGNMENT_SECTORS} to the payload or the area's end, sector ${endSector}`;
    refuse(`the material of LUKS key slot ${index} is sectors ${start} to ${start + sectors}; it must lie ${limits}`);
  }
  for (let other = index + 1; other < slots.length; other++) {
    const otherStart = slots[other]!.materialSector;
    if (start < otherStart + sectors && otherStart < start + sectors) {
      const where = `begins at sector ${start} and ${otherStart}, and takes ${sectors}`;
      refuse(`the material of LUKS key slots ${index} and ${other} overlaps: it ${where}`);
    }
  }
}

/** The header, `LUKS_HEADER_BYTES` long. */
export function encodeLuksHeader(header: LuksHeader): Uint8Array {
  const bytes = new Uint8Array(LUKS_HEADER_BYTES);
  const view = viewOf(bytes);
  const setText = (at: number, text: string) => bytes.set(new TextEncoder().encode(text), at);
  bytes.set(MAGIC);
  view.setUint16(AT.version, VERSION);
  setText(AT.cipherName, header.cipherName);
  setText(AT.cipherMode, header.cipherMode);
  setText(AT.hash, header.hash);
  view.setUint32(AT.payload, header.payloadSector);
  view.setUint32(AT.keyBytes, header.keyBytes);
  bytes.set(header.keyDigest, AT.digest);
  bytes.set(header.keyDigestSalt, AT.salt);
  view.setUint32(AT.iterations, header.keyDigestIterations);
  setText(AT.uuid, header.uuid);
  header.slots.forEach((slot, index) => bytes.set(encodeKeySlot(slot), keySlotAt(index)));
  return bytes;
}

/** The entry of one slot, to be written at `keySlotAt` of its number. */
export function encodeKeySlot(slot: LuksKeySlot): Uint8Array {
  const bytes = new Uint8Array(KEY_SLOT_BYTES);
  const view = viewOf(bytes);
  view.setUint32(SLOT_AT.state, slot.active ? SLOT_ACTIVE : SLOT_INACTIVE);
  view.setUint32(SLOT_AT.iterations, slot.iterations);
  bytes.set(slot.salt, SLOT_AT.salt);
  view.setUint32(SLOT_AT.material, slot.materialSector);
  view.setUint32(SLOT_AT.stripes, STRIPES);
  return bytes;
}

/** The entry of a slot that holds nothing. Its place stays its own. */
export function emptyKeySlot(materialSector: number): LuksKeySlot {
  return { active: false, iterations: 0, salt: new Uint8Array(SALT_BYTES), materialSector };
}

/** A name must end inside its field: what takes it for a string of C would read on. */
function getName(bytes: Uint8Array, at: number, field: string): string {
  const name = bytes.subarray(at, at + NAME_BYTES);
  if (!name.includes(0)) refuse(`the ${field} of the LUKS header does not end within its ${NAME_BYTES} bytes`);
  return textOf(name);
}

function textOf(field: Uint8Array): string {
  const end = field.indexOf(0);
  return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end));
}

function refuse(message: string): never {
  throw new Qcow2Error('BAD_IMAGE', message);
}
