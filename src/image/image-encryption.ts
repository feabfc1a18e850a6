/**
 * Encryption of an image: what its guest data are encrypted with, once a passphrase has opened it. The key is in the cipher
 * alone, whose memory is overwritten when the image is closed.
 *
 *   crypt_method   1 legacy AES   AES-128-CBC by the sector of the guest; the passphrase is the key
 *                  2 LUKS         by the sector of the file; header and key slots lie where the encryption extension says
 *
 * Metadata are not encrypted, and neither are compressed clusters, which an encrypted image is not given therefore.
 */
import { EncryptedData } from '../crypto/encrypted-data.js';
import type { CipherSpec } from '../crypto/luks-cipher.js';
import { Qcow2Error, isQcow2Error } from '../errors.js';
import { CRYPT_AES, CRYPT_NONE } from '../format/header-checks.js';
import type { Header } from '../format/header.js';
import type { SectorCipher } from '../kernels/cipher-contract.js';
import { plainData, type GuestData } from '../storage/guest-data.js';
import type { Storage } from '../storage/storage.js';

export type EncryptionFormat = 'aes' | 'luks';

const NAMES: Readonly<Record<EncryptionFormat, string>> = { aes: 'AES', luks: 'LUKS' };

/**
 * An opened encryption. It belongs to who opened it until an image is opened with it: that wipes the key when it is closed, unless it
 * is `borrowed`. One that no image was opened with is its owner's to wipe, by `cipher.wipe()`.
 */
export interface ImageEncryption {
  readonly format: EncryptionFormat;
  readonly spec: CipherSpec;
  /**
   * Whether this is the key of the image in `storage`, whose encryption has the same format: its LUKS header is read again. Nothing in the
   * file tells one key of legacy AES from another. Throws `BAD_IMAGE` or `UNSUPPORTED` for a header that is damaged. A function of the
   * key: an engine without unlocked images knows no LUKS headers.
   */
  isKeyOf(storage: Storage, header: Header): boolean;
  readonly cipher: SectorCipher;
  /** Somebody else, an image with the same key, wipes it. */
  readonly borrowed?: boolean;
}

/** Null for an image that is not encrypted. */
export function encryptionFormat({ cryptMethod }: Header): EncryptionFormat | null {
  if (cryptMethod === CRYPT_NONE) return null;
  return cryptMethod === CRYPT_AES ? 'aes' : 'luks';
}

/**
 * The guest data of an image. `encryption` is null to leave it locked: all but its data can be looked at then. Throws
 * `KEY_NEEDED` where it is missing, `BAD_ARGUMENT` for one that is not this image's kind, `CLOSED` for one that is wiped. That its key is
 * the image's is `isKeyOf`'s to say.
 */
export function guestDataOf(header: Header, data: Storage, encryption: ImageEncryption | null | undefined): GuestData {
  const format = encryptionFormat(header);
  if (format === null) {
    if (encryption == null) return plainData(data);
    throw new Qcow2Error('BAD_ARGUMENT', 'encryption was given, and the image is not encrypted');
  }
  if (encryption === undefined) throw keyNeeded(format);
  if (encryption === null) return lockedData(format);
  if (encryption.format !== format) {
    throw new Qcow2Error('BAD_ARGUMENT', `encryption.format is ${encryption.format}; that of the image is ${format}`);
  }
  const encrypted = new EncryptedData(data, encryption.cipher, format === 'luks' ? 'host' : 'guest');
  checkNotWiped(encrypted);
  return encrypted;
}

function checkNotWiped(encrypted: EncryptedData): void {
  try {
    encrypted.checkKey();
  } catch (cause) {
    if (!isQcow2Error(cause, 'CLOSED')) throw cause;
    const why = 'when an image that was opened with it was closed, or by who made it';
    throw new Qcow2Error('CLOSED', `the key of encryption was wiped, ${why}; unlock the image again`, { cause });
  }
}

/** True for any encryption, a format for that one, false for none or any. */
export type RequiredEncryption = boolean | EncryptionFormat;

/** Throws `BAD_ARGUMENT` for an image that is not encrypted as `required`, or a requirement that is none. */
export function checkEncryptedAs(header: Header, required: RequiredEncryption): void {
  if (![true, false, 'luks', 'aes'].includes(required)) {
    throw new Qcow2Error('BAD_ARGUMENT', 'requireEncryption must be true, false, "luks" or "aes"');
  }
  const format = encryptionFormat(header);
  if (required === false || (required === true ? format !== null : format === required)) return;
  const wanted = required === true ? 'it must be encrypted' : `it must be encrypted with ${NAMES[required]}`;
  const is = format === null ? 'not encrypted' : `encrypted with ${NAMES[format]}`;
  throw new Qcow2Error('BAD_ARGUMENT', `the image is ${is}, and ${wanted}`);
}

function lockedData(format: EncryptionFormat): GuestData {
  const refuse = (): never => {
    throw keyNeeded(format);
  };
  return { encrypted: true, boundToGuestOffset: format === 'aes', checkKey: refuse, read: refuse, write: refuse };
}

function keyNeeded(format: EncryptionFormat): Qcow2Error {
  return new Qcow2Error('KEY_NEEDED', `the image is encrypted (${NAMES[format]}), and no key was given`);
}
