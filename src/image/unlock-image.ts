/**
 * Passphrases: from one to the open encryption of an image, and from one to the encryption of an image that is to be made.
 *
 * What is read is read first, because it may fault; deriving keys reads nothing. Passphrases are text, as UTF-8, or bytes.
 */
import { keyIdentityOf, sameKeyIdentity } from '../crypto/key-identity.js';
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
import type { LuksHeader } from '../format/luks-header.js';
import type { CreateSectorCipher, SectorCipher } from '../kernels/cipher-contract.js';
import { createSectorCipher } from '../kernels/index.js';
import { readHeader } from '../metadata/header-state.js';
import { settle } from '../storage/not-resident.js';
import type { Storage } from '../storage/storage.js';
import { kindOf } from '../util/kind-of.js';
import { encryptionFormat, type ImageEncryption } from './image-encryption.js';
import { readLuksHeaderOf } from './luks-header-of.js';

export type Passphrase = string | Uint8Array;

export interface UnlockOptions {
  /** Default: WebCrypto, and JavaScript for hashes that it lacks. */
  readonly derivation?: KeyDerivation | undefined;
  /** Default: the WASM kernels; in Node `createNodeSectorCipher` of `qcow2-wasm/node` is faster. */
  readonly createCipher?: CreateSectorCipher | undefined;
  /** Looked at between two derivations; ended by it, they reject with `ABORTED`. */
  readonly signal?: AbortSignal | undefined;
  /**
   * HMACs that trying a passphrase on all key slots may take; making one asks no more than opening may take. By default what QEMU makes
   * opens, and a hostile image is refused in minutes: 2^28 a slot and 2^30 in all with SHA-256 of WebCrypto (`crypto/key-limits.ts`).
   */
  readonly maxDerivationWork?: number | undefined;
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
    if (format === 'aes') return openedAes(bytes, options);
    const volume = await settle(() => readVolume(storage, header));
    const { key } = await unlock(volume, bytes, keyTools(options));
    return openedLuks(volume.header, volume.cipher, key, options);
  });
}

/** LUKS with these settings, or legacy AES, which is deprecated: anybody can try millions of passphrases a second. */
export type EncryptionSettings =
  | ({ readonly format: 'luks'; readonly passphrase: Passphrase } & LuksOptions)
  | { readonly format: 'aes'; readonly passphrase: Passphrase };

/**
 * The encryption of one image that is to be made: for `createImage`, and then `opened` for `openImage`, which derives nothing again.
 *
 * The key in `opened` belongs to who called `newEncryption`, until an image is opened with it: from then on it is the image's, which wipes
 * it when it is closed. Where no image is opened, or opening fails, `dispose` wipes it.
 */
export interface NewEncryption {
  readonly opened: ImageEncryption;
  /** The LUKS header with its key slots; null for legacy AES. */
  readonly area: Uint8Array | null;
  /** Wipes the key, unless it is borrowed. An image that is open with it can't be used any more. Does no harm a second time. */
  dispose(): void;
}

/**
 * A key of its own for one new image. Rejects with `BAD_ARGUMENT` for settings out of range or against each other, `LIMIT` for too
 * many iterations, and `ABORTED`.
 */
export async function newEncryption(settings: EncryptionSettings, options: UnlockOptions = {}): Promise<NewEncryption> {
  checkFormat(settings);
  return withPassphrase(settings.passphrase, async (bytes) => {
    if (settings.format === 'aes') return encryptionOf(openedAes(bytes, options), null);
    const { area, header, cipher, key } = await createLuks(settings, bytes, keyTools(options));
    return encryptionOf(openedLuks(header, cipher, key, options), area);
  });
}

/** `opened` and `area` as what `createImage` takes. */
export function encryptionOf(opened: ImageEncryption, area: Uint8Array | null): NewEncryption {
  return {
    opened,
    area,
    dispose: () => {
      if (opened.borrowed !== true) opened.cipher.wipe();
    },
  };
}

/** Callers without a compiler have any value here, and none must be taken for one of the two. */
function checkFormat(settings: { readonly format?: unknown } | null | undefined): void {
  const format = settings?.format;
  if (format === 'luks' || format === 'aes') return;
  const value = typeof format === 'string' ? JSON.stringify(format) : kindOf(format);
  throw new Qcow2Error('BAD_ARGUMENT', `encryption.format is ${value}; it must be "luks" or "aes"`);
}

/** Reads the LUKS header and the material of the slots in use. Throws `BAD_IMAGE` or `UNSUPPORTED`. */
export function readVolume(storage: Storage, header: Header): LuksVolume {
  const area = cryptoAreaOf(header);
  if (area === null) throw new Qcow2Error('BAD_ARGUMENT', 'the image has no key slots: it is not encrypted with LUKS');
  return readLuksVolume((offset, target) => storage.read(area.offset + offset, target), area.length);
}

export function keyTools({ derivation, createCipher, signal, maxDerivationWork }: UnlockOptions): KeyTools {
  return {
    derivation: derivation ?? webKeyDerivation,
    createCipher: createCipher ?? createSectorCipher,
    ...(signal === undefined ? {} : { signal }),
    ...(maxDerivationWork === undefined ? {} : { maxDerivationWork }),
  };
}

/**
 * Has `use` work with the bytes of a passphrase; those made of text are overwritten afterwards. Rejects with `BAD_ARGUMENT`, naming
 * `field`, for what is no passphrase.
 */
export async function withPassphrase<T>(
  passphrase: Passphrase,
  use: (bytes: Uint8Array) => Promise<T>,
  field = 'passphrase',
): Promise<T> {
  const bytes = bytesOf(passphrase, field);
  try {
    return await use(bytes);
  } finally {
    wipe(bytes);
  }
}

/** A copy. An error names the type alone: the value may be a secret that came in the wrong form. */
function bytesOf(passphrase: unknown, field: string): Uint8Array {
  if (typeof passphrase === 'string') return new TextEncoder().encode(passphrase);
  if (isByteArray(passphrase)) return Uint8Array.from(passphrase);
  throw new Qcow2Error('BAD_ARGUMENT', `${field} is ${kindOf(passphrase)}; it must be text or a Uint8Array`);
}

/** Also one of another window, which is no instance of this one's class. */
function isByteArray(value: unknown): value is Uint8Array {
  return kindOf(value) === 'a Uint8Array';
}

function openedAes(passphrase: Uint8Array, options: UnlockOptions): ImageEncryption {
  const key = legacyAesKey(passphrase);
  const cipher = openedCipher(LEGACY_AES, key, options);
  return { format: 'aes', spec: LEGACY_AES, isKeyOf: () => true, cipher };
}

function openedLuks(header: LuksHeader, spec: CipherSpec, key: Uint8Array, options: UnlockOptions): ImageEncryption {
  const identity = keyIdentityOf(header);
  const isKeyOf: ImageEncryption['isKeyOf'] = (storage, now) =>
    sameKeyIdentity(identity, keyIdentityOf(readLuksHeaderOf(storage, now)));
  return { format: 'luks', spec, isKeyOf, cipher: openedCipher(spec, key, options) };
}

/** `key` is wiped: the cipher has a copy. */
function openedCipher(
  spec: CipherSpec,
  key: Uint8Array,
  { createCipher = createSectorCipher }: UnlockOptions,
): SectorCipher {
  try {
    return keyedCipher(spec, key, createCipher);
  } finally {
    wipe(key);
  }
}
