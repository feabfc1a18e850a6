/**
 * Making a LUKS header for a new image: a random key, behind one passphrase in slot 0. Layout, defaults and rules are those of
 * QEMU 7.2 (`qemu-img create -o encrypt.format=luks`).
 *
 *   | header | to 4096 | material of slot 0 | of slot 1 | ... | of slot 7 |   the payload's place = the end of the area
 */
import { SECTOR_BYTES } from '../format/limits.js';
import {
  KEY_SLOTS,
  SALT_BYTES,
  emptyKeySlot,
  encodeLuksHeader,
  newMaterialSector,
  type LuksHeader,
} from '../format/luks-header.js';
import type { CipherMode, CipherName } from '../kernels/cipher-contract.js';
import { HASH_NAMES, type HashName } from './hashes.js';
import { DEFAULT_ITER_TIME, iterationsFor } from './iteration-count.js';
import { workLimits } from './key-limits.js';
import { checkedCipher, keyBytesOf, namesOf, oneOf, type CipherSpec, type IvKind } from './luks-cipher.js';
import { digestKey, makeKeySlot, throwIfAborted, type KeyTools, type MadeKeySlot } from './luks-key-slots.js';
import { randomBytes, randomUuid, wipe } from './secrets.js';

export interface LuksOptions {
  /** Default `aes-256`. `aes-192` has mode `xts` only. */
  readonly cipher?: CipherName;
  /** Default `xts`. The others are here because QEMU has them: `ecb` shows which blocks are the same, and `ctr` what changed in a sector. */
  readonly mode?: CipherMode;
  /** Default `plain64`. */
  readonly iv?: IvKind;
  /** The hash of `essiv`: `sha256`, which is its default, or `md5`. With other IV generators it is recorded and means nothing. */
  readonly ivHash?: HashName;
  /** Of key derivation and of the anti-forensic split. Default `sha256`. */
  readonly hash?: HashName;
  /** Milliseconds that opening a slot is to take on this machine; at least 1000 iterations are made. Default 2000. */
  readonly iterTime?: number;
}

export interface NewLuks {
  /** The whole header area, key material included. */
  readonly area: Uint8Array<ArrayBuffer>;
  /** As it lies in the area. */
  readonly header: LuksHeader;
  readonly cipher: CipherSpec;
  /** The key of the image. The caller's, to be wiped by it. */
  readonly key: Uint8Array<ArrayBuffer>;
}

/** Bytes of the header area of an image with `options`. Throws `BAD_ARGUMENT` for options out of range or against each other. */
export function luksAreaBytes(options: LuksOptions): number {
  return newMaterialSector(KEY_SLOTS, keyBytesOf(wantedCipher(options))) * SECTOR_BYTES;
}

/**
 * A new header area and the key behind it. QEMU takes passphrases that are UTF-8 without NUL; here they are any bytes. Rejects
 * with `BAD_ARGUMENT`, `LIMIT` for more iterations than an image may ask for, `ABORTED`.
 */
export async function createLuks(options: LuksOptions, passphrase: Uint8Array, tools: KeyTools): Promise<NewLuks> {
  const cipher = wantedCipher(options);
  const hash = oneOf('hash', options.hash ?? 'sha256', HASH_NAMES, 'BAD_ARGUMENT');
  const keyBytes = keyBytesOf(cipher);
  const { iterTime = DEFAULT_ITER_TIME } = options;
  throwIfAborted(tools);
  const iterations = await iterationsFor({ hash, keyBytes, iterTime, maxWork: workLimits(tools, hash).slot }, tools);
  const key = randomBytes(keyBytes);
  try {
    const digest = { keyDigestSalt: randomBytes(SALT_BYTES), keyDigestIterations: iterations.keyDigest };
    const keyDigest = await digestKey(key, digest, hash, tools);
    const made = await makeKeySlot({ key, passphrase, iterations: iterations.slot, cipher, hash }, tools);
    const header = newHeader({ cipher, hash, keyDigest, ...digest }, made);
    return { area: layOut(header, made), header, cipher, key };
  } catch (error) {
    wipe(key);
    throw error;
  }
}

function wantedCipher({ cipher = 'aes-256', mode = 'xts', iv = 'plain64', ivHash }: LuksOptions): CipherSpec {
  const hashOfIv = ivHash ?? (iv === 'essiv' ? 'sha256' : undefined);
  return checkedCipher({ cipher, mode, iv, ivHash: hashOfIv }, 'BAD_ARGUMENT');
}

interface NewHeader extends Pick<LuksHeader, 'keyDigest' | 'keyDigestSalt' | 'keyDigestIterations'> {
  readonly cipher: CipherSpec;
  readonly hash: HashName;
}

function newHeader({ cipher, ...rest }: NewHeader, { iterations, salt }: MadeKeySlot): LuksHeader {
  const keyBytes = keyBytesOf(cipher);
  const slots = Array.from({ length: KEY_SLOTS }, (_, index) => emptyKeySlot(newMaterialSector(index, keyBytes)));
  return {
    ...namesOf(cipher),
    ...rest,
    payloadSector: newMaterialSector(KEY_SLOTS, keyBytes),
    keyBytes,
    uuid: randomUuid(),
    slots: slots.map((slot, index) => (index === 0 ? { ...slot, active: true, iterations, salt } : slot)),
  };
}

function layOut(header: LuksHeader, { material }: MadeKeySlot): Uint8Array<ArrayBuffer> {
  const area = new Uint8Array(header.payloadSector * SECTOR_BYTES);
  area.set(encodeLuksHeader(header));
  area.set(material, header.slots[0]!.materialSector * SECTOR_BYTES);
  return area;
}
