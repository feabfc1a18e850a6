/**
 * Passphrases: from one to the open encryption of an image, and from one to the encryption of an image that is to be made.
 *
 * What is read is read first, because it may fault; deriving keys reads nothing. Passphrases are text, as UTF-8, or bytes.
 */
import { webKeyDerivation, type KeyDerivation } from '../crypto/key-derivation.js';
import { LEGACY_AES, legacyAesKey } from '../crypto/legacy-aes.js';
import { keyedCipher, type CipherSpec } from '../crypto/luks-cipher.js';
import { createLuks, type LuksOptions } from '../crypto/luks-create.js';
import type { KeyTools } from '../crypto/luks-key-slots.js';
import { readLuksVolume, type LuksVolume } from '../crypto/luks-volume.js';
import { unlock } from '../crypto/luks.js';
import { wipe } from '../crypto/secrets.js';
import { Qcow2Error } from '../errors.js';
import { cryptoAreaOf, type Header } from '../format/header.js';
import type { CreateSectorCipher } from '../kernels/cipher-contract.js';
import { createSectorCipher } from '../kernels/index.js';
import { readHeader } from '../metadata/header-state.js';
import { settle } from '../storage/not-resident.js';
import type { Storage } from '../storage/storage.js';
import { encryptionFormat, type EncryptionFormat, type ImageEncryption } from './image-encryption.js';

export type Passphrase = string | Uint8Array;

export interface UnlockOptions {
  /** Default: WebCrypto, and JavaScript for hashes that it lacks. */
  readonly derivation?: KeyDerivation | undefined;
  /** Default: the WASM kernels; in Node `createNodeSectorCipher` of `qcow2-wasm/node` is faster. */
  readonly createCipher?: CreateSectorCipher | undefined;
  /** Looked at between two derivations. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Opens the encryption of the image in `storage`, for `openImage`. Rejects with `WRONG_PASSPHRASE`, with `LIMIT` for key slots that ask
 * for too much work, `UNSUPPORTED` for ciphers that are not handled, `BAD_ARGUMENT` for an image that is not encrypted, and as
 * `openImage` throws. Legacy AES can't tell a wrong passphrase.
 */
export async function unlockImage(
  storage: Storage,
  passphrase: Passphrase,
  options: UnlockOptions = {},
): Promise<ImageEncryption> {
  const header = await settle(() => readHeader(storage));
  const format = encryptionFormat(header);
  if (format === null) throw new Qcow2Error('BAD_ARGUMENT', 'the image is not encrypted; there is nothing to unlock');
  return withPassphrase(passphrase, async (bytes) => {
    if (format === 'aes') return openedCipher(format, LEGACY_AES, legacyAesKey(bytes), options);
    const volume = await settle(() => readVolume(storage, header));
    const { key } = await unlock(volume, bytes, keyTools(options));
    return openedCipher(format, volume.cipher, key, options);
  });
}

/** LUKS with these settings, or legacy AES, which is deprecated: anybody can try millions of passphrases a second. */
export type EncryptionSettings =
  | ({ readonly format: 'luks'; readonly passphrase: Passphrase } & LuksOptions)
  | { readonly format: 'aes'; readonly passphrase: Passphrase };

/** The encryption of an image that is to be made: for `createImage`, and then `opened` for `openImage`. */
export interface NewEncryption {
  readonly opened: ImageEncryption;
  /** The LUKS header with its key slots; null for legacy AES. */
  readonly area: Uint8Array | null;
}

/** Rejects with `BAD_ARGUMENT` for settings out of range or against each other, and `LIMIT` for too many iterations. */
export function newEncryption(settings: EncryptionSettings, options: UnlockOptions = {}): Promise<NewEncryption> {
  return withPassphrase(settings.passphrase, async (bytes) => {
    if (settings.format === 'aes') {
      return { opened: openedCipher('aes', LEGACY_AES, legacyAesKey(bytes), options), area: null };
    }
    const { area, cipher, key } = await createLuks(settings, bytes, keyTools(options));
    return { opened: openedCipher('luks', cipher, key, options), area };
  });
}

/** Reads the LUKS header and the material of the slots in use. Throws `BAD_IMAGE` or `UNSUPPORTED`. */
export function readVolume(storage: Storage, header: Header): LuksVolume {
  const area = cryptoAreaOf(header);
  if (area === null) throw new Qcow2Error('BAD_ARGUMENT', 'the image has no key slots: it is not encrypted with LUKS');
  return readLuksVolume((offset, target) => storage.read(area.offset + offset, target), area.length);
}

export function keyTools({ derivation, createCipher, signal }: UnlockOptions): KeyTools {
  return {
    derivation: derivation ?? webKeyDerivation,
    createCipher: createCipher ?? createSectorCipher,
    ...(signal === undefined ? {} : { signal }),
  };
}

/** Has `use` work with the bytes of a passphrase; those made of text are overwritten afterwards. */
export async function withPassphrase<T>(passphrase: Passphrase, use: (bytes: Uint8Array) => Promise<T>): Promise<T> {
  const bytes = typeof passphrase === 'string' ? new TextEncoder().encode(passphrase) : Uint8Array.from(passphrase);
  try {
    return await use(bytes);
  } finally {
    wipe(bytes);
  }
}

/** `key` is wiped: the cipher has a copy. */
function openedCipher(
  format: EncryptionFormat,
  spec: CipherSpec,
  key: Uint8Array,
  { createCipher = createSectorCipher }: UnlockOptions,
): ImageEncryption {
  try {
    return { format, spec, cipher: keyedCipher(spec, key, createCipher) };
  } finally {
    wipe(key);
  }
}
