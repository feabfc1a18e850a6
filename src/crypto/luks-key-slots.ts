/**
 * One key slot: how a passphrase and its key material make the key of the image, and the other way round (LUKS On-Disk Format
 * 1.2.3, "Master key recovery" and "Adding new passwords").
 *
 *   passphrase --PBKDF2(salt, iterations)--> slot key
 *   key material --decrypt with the slot key, sectors counted from 0--> stripes --merge--> candidate
 *   candidate --PBKDF2(salt, iterations of the digest)--> digest: the one in the header? then it is the key
 */
import { Qcow2Error } from '../errors.js';
import { KEY_DIGEST_BYTES, SALT_BYTES, type LuksHeader } from '../format/luks-header.js';
import type { SectorCipherOptions } from '../kernels/cipher-contract.js';
import { mergeKey, splitKey } from './anti-forensic.js';
import type { HashName } from './hashes.js';
import type { IterationTools } from './iteration-count.js';
import type { WorkLimit } from './key-limits.js';
import { keyBytesOf, keyedCipher, type CipherSpec, type KeyCipher } from './luks-cipher.js';
import type { LuksVolume } from './luks-volume.js';
import { randomBytes, sameDigest, wipe } from './secrets.js';

/** What comes from outside. */
export interface KeyTools extends IterationTools, WorkLimit {
  readonly createCipher: (options: SectorCipherOptions) => KeyCipher;
  /** Looked at between two derivations. */
  readonly signal?: AbortSignal;
}

/** Throws `ABORTED` once the signal is. Called before each derivation that takes its time. */
export function throwIfAborted({ signal }: Pick<KeyTools, 'signal'>): void {
  if (signal?.aborted !== true) return;
  throw new Qcow2Error('ABORTED', 'deriving keys was ended by its AbortSignal', { cause: signal.reason });
}

/** What a slot is made of, wherever it will lie. Nothing in it is secret. */
export interface MadeKeySlot {
  readonly iterations: number;
  readonly salt: Uint8Array;
  /** The encrypted stripes. */
  readonly material: Uint8Array;
}

/** The key, if `passphrase` is the one of slot `index`, which is active; null if it is not. The key is the caller's to wipe. */
export async function openKeySlot(
  volume: LuksVolume,
  index: number,
  passphrase: Uint8Array,
  tools: KeyTools,
): Promise<Uint8Array<ArrayBuffer> | null> {
  const { header, hash } = volume;
  const { salt, iterations } = header.slots[index]!;
  const request = { hash, password: passphrase, salt, iterations, length: header.keyBytes };
  const slotKey = await tools.derivation.pbkdf2(request);
  const candidate = recoverKey(volume, index, slotKey, tools);
  let isKey = false;
  try {
    isKey = sameDigest(await digestKey(candidate, header, hash, tools), header.keyDigest);
  } finally {
    if (!isKey) wipe(candidate);
  }
  return isKey ? candidate : null;
}

/** What the material of slot `index` holds for `slotKey`, which is wiped. */
function recoverKey(volume: LuksVolume, index: number, slotKey: Uint8Array, tools: KeyTools) {
  const stripes = volume.materials[index]!.slice();
  try {
    withSlotKey(volume.cipher, slotKey, tools, (cipher) => cipher.decrypt(stripes, 0));
    return mergeKey(stripes, volume.header.keyBytes, volume.hash);
  } finally {
    wipe(stripes);
  }
}

/** Lets `use` have the cipher of `slotKey`. Both are wiped, whatever happens. */
function withSlotKey(spec: CipherSpec, slotKey: Uint8Array, tools: KeyTools, use: (cipher: KeyCipher) => void): void {
  try {
    const cipher = keyedCipher(spec, slotKey, tools.createCipher);
    try {
      use(cipher);
    } finally {
      cipher.wipe();
    }
  } finally {
    wipe(slotKey);
  }
}

/** The digest by which the key of the image is known. */
export function digestKey(
  key: Uint8Array,
  { keyDigestSalt, keyDigestIterations }: Pick<LuksHeader, 'keyDigestSalt' | 'keyDigestIterations'>,
  hash: HashName,
  { derivation }: KeyTools,
): Promise<Uint8Array> {
  const iterations = keyDigestIterations;
  return derivation.pbkdf2({ hash, password: key, salt: keyDigestSalt, iterations, length: KEY_DIGEST_BYTES });
}

export interface KeySlotRequest {
  /** The key of the image. */
  readonly key: Uint8Array;
  readonly passphrase: Uint8Array;
  readonly iterations: number;
  readonly cipher: CipherSpec;
  readonly hash: HashName;
}

/** A slot that gives `key` to whoever has `passphrase`. */
export async function makeKeySlot(request: KeySlotRequest, tools: KeyTools): Promise<MadeKeySlot> {
  const { key, passphrase, iterations, cipher, hash } = request;
  throwIfAborted(tools);
  const salt = randomBytes(SALT_BYTES);
  const length = keyBytesOf(cipher);
  const slotKey = await tools.derivation.pbkdf2({ hash, password: passphrase, salt, iterations, length });
  const material = splitKey(key, hash);
  withSlotKey(cipher, slotKey, tools, (sectorCipher) => sectorCipher.encrypt(material, 0));
  return { iterations, salt, material };
}
