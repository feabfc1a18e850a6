/**
 * AES over groups of eight blocks, side by side and in place. FIPS 197, sections 5.1 and 5.3.
 *
 * A round is two steps: what ends with the S-box and ShiftRows, and MixColumns. When decrypting, each undoes its own.
 */
import { GROUP_BYTES, transpose } from './aes-groups';
import { ROUND_KEY_BYTES, firstRoundKey, lastRoundKey } from './aes-keys';
import { addRoundKey, mix, unmix } from './aes-linear';
import { substitute } from './aes-sbox';
import { unsubstitute } from './aes-sbox-inverse';

/** Encrypts `count` groups at `groups` with the key in `slot`. */
export function encryptGroups(slot: usize, groups: usize, count: usize): void {
  const end = groups + count * GROUP_BYTES;
  const last = lastRoundKey(slot);
  let key = firstRoundKey(slot);
  transpose(groups, end);
  while (true) {
    substitute(groups, end, key);
    key += ROUND_KEY_BYTES;
    if (key == last) break;
    mix(groups, end);
  }
  addRoundKey(groups, end, last);
  transpose(groups, end);
}

/** Decrypts `count` groups at `groups` with the key in `slot`. */
export function decryptGroups(slot: usize, groups: usize, count: usize): void {
  const end = groups + count * GROUP_BYTES;
  const first = firstRoundKey(slot);
  let key = lastRoundKey(slot);
  transpose(groups, end);
  addRoundKey(groups, end, key);
  while (true) {
    key -= ROUND_KEY_BYTES;
    unsubstitute(groups, end, key);
    if (key == first) break;
    unmix(groups, end);
  }
  transpose(groups, end);
}
