/** Encrypted images in memory, cheap to make: LUKS with the fewest iterations, and legacy AES. */
import {
  createImage,
  MemoryStorage,
  newEncryption,
  openChain,
  type ChainOptions,
  type CreateOptions,
  type EncryptionSettings,
  type NewEncryption,
  type Qcow2Image,
} from '../../src/index.js';
import type { Storage } from '../../src/storage/storage.js';

export const PASSPHRASE = 'correct horse battery staple';

type WithoutPassphrase<Each> = Each extends EncryptionSettings ? Omit<Each, 'passphrase'> : never;
export type Encryption = WithoutPassphrase<EncryptionSettings>;

export const LUKS = { format: 'luks', iterTime: 0 } as const satisfies Encryption;
export const AES = { format: 'aes' } as const satisfies Encryption;
export const FORMATS = [LUKS, AES] as const;

export interface EncryptedShape {
  readonly encryption: Encryption;
  readonly create: Omit<CreateOptions, 'encryption'>;
  readonly passphrase?: string;
}

/** Makes `storage` an empty image, and keeps no key. */
export async function createEncrypted(storage: Storage, shape: EncryptedShape): Promise<void> {
  const { encryption, create, passphrase = PASSPHRASE } = shape;
  const made = await newEncryption({ ...encryption, passphrase });
  createImage(storage, { ...create, encryption: made });
  made.dispose();
}

export async function newEncrypted(shape: EncryptedShape): Promise<MemoryStorage> {
  const storage = new MemoryStorage();
  await createEncrypted(storage, shape);
  return storage;
}

export function openEncrypted(storage: Storage, options: ChainOptions = {}): Promise<Qcow2Image> {
  return openChain(storage, { passphrase: PASSPHRASE, ...options });
}

/** For images by the dozen with one key, whose cipher nobody wipes; a real image has a key of its own. */
export async function sharedEncryption(settings: EncryptionSettings): Promise<NewEncryption> {
  const made = await newEncryption(settings);
  return { ...made, opened: { ...made.opened, borrowed: true } };
}

/** Creates and opens. */
export async function freshEncrypted(
  encryption: Encryption,
  create: EncryptedShape['create'],
): Promise<{ storage: MemoryStorage; image: Qcow2Image }> {
  const storage = await newEncrypted({ encryption, create });
  return { storage, image: await openEncrypted(storage) };
}
