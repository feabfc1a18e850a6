/**
 * Legacy AES: the encryption of crypt_method 1 (spec, "Data encryption"). There is no header and nothing is derived: the
 * passphrase itself is the key, so nobody can tell a wrong one, and an attacker tries millions a second. The IV is the
 * sector of the guest, so equal data at one place of two images look equal.
 *
 * It is deprecated. QEMU's tools still read, write and create such images; its emulators refuse them. The
 * specification speaks of keys of 256 bits; QEMU, and so everybody, has AES-128: the passphrase is cut, or filled up with zeroes, to
 * 16 bytes.
 */
import type { CipherSpec } from './luks-cipher.js';

/** Its tweak is the sector of the guest, not the one in the file as for LUKS. */
export const LEGACY_AES: CipherSpec = { cipher: 'aes-128', mode: 'cbc', iv: 'plain64' };

const KEY_BYTES = 16;

/** The key that QEMU makes of `passphrase`. The caller's, to be wiped by it. */
export function legacyAesKey(passphrase: Uint8Array): Uint8Array<ArrayBuffer> {
  const key = new Uint8Array(KEY_BYTES);
  key.set(passphrase.subarray(0, KEY_BYTES));
  return key;
}
