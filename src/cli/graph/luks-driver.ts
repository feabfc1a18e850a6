/**
 * `luks`: a disk that is encrypted as a whole, in the first version of LUKS: the header with its key slots, and behind it the guest's
 * sectors, each encrypted by its number on the disk. A wrong passphrase, or none, leaves it closed; for information it needs none.
 */
import { EncryptedData } from '../../crypto/encrypted-data.js';
import { createNodeSectorCipher } from '../../crypto/node-sector-cipher.js';
import { keyedCipher } from '../../crypto/luks-cipher.js';
import { activeSlots, readLuksVolume, type LuksVolume } from '../../crypto/luks-volume.js';
import { unlock } from '../../crypto/luks.js';
import { wipe } from '../../crypto/secrets.js';
import { isQcow2Error, Qcow2Error } from '../../errors.js';
import { SECTOR_BYTES } from '../../format/limits.js';
import { keyTools, withPassphrase } from '../../image/unlock-image.js';
import type { SectorCipher } from '../../kernels/cipher-contract.js';
import type { Storage } from '../../storage/storage.js';
import { CliError } from '../text/messages.js';
import type { Driver, OpenContext } from './driver.js';
import { shownName } from './shown-name.js';
import { StorageNode, type HostStorage } from './storage-node.js';
import { windowStorage } from './window-storage.js';

/** The first bytes of such a disk. */
export const LUKS_MAGIC: readonly number[] = [0x4c, 0x55, 0x4b, 0x53, 0xba, 0xbe];

export const luksDriver: Driver = {
  name: 'luks',
  kind: 'format',
  strong: ['key-secret'],
  async open(context) {
    const { flags, strong } = context;
    const file = context.file!;
    const volume = volumeOf(file.storage);
    const cipher = await openCipher(context, volume);
    const storage = payloadStorage(file.storage, volume.header.payloadSector * SECTOR_BYTES, cipher);
    const names = { driver: 'luks', fileName: shownName({ driver: 'luks', file, strong }) };
    return new StorageNode({ ...names, storage, file, readOnly: flags.readOnly ?? false });
  },
};

/** The header of the disk in `storage`. Throws `CliError` for one that is none. */
export function volumeOf(storage: Storage): LuksVolume {
  try {
    return readLuksVolume((offset, target) => storage.read(offset, target), storage.size);
  } catch (error) {
    if (!isQcow2Error(error, 'BAD_IMAGE')) throw error;
    throw new CliError('Volume is not in LUKS format', { cause: error });
  }
}

/** Null where the data are not to be looked at. */
async function openCipher({ options, flags }: OpenContext, volume: LuksVolume): Promise<SectorCipher | null> {
  const id = options.takeText('key-secret');
  if (flags.noIo === true) return null;
  if (id === undefined) throw new CliError("Parameter 'key-secret' is required for cipher");
  const passphrase = flags.secrets?.lookup(id);
  if (passphrase === undefined) throw new CliError(`No secret with id '${id}'`);
  return withPassphrase(passphrase, async (bytes) => {
    const { key } = await unlocked(volume, bytes);
    try {
      return keyedCipher(volume.cipher, key, createNodeSectorCipher);
    } finally {
      wipe(key);
    }
  });
}

async function unlocked(volume: LuksVolume, passphrase: Uint8Array): ReturnType<typeof unlock> {
  try {
    return await unlock(volume, passphrase, keyTools({ createCipher: createNodeSectorCipher }));
  } catch (error) {
    throw invalidPassword(error, volume) ?? error;
  }
}

/** What is said of a passphrase that opens no slot, be it that there is none left. Null for another error. */
export function invalidPassword(error: unknown, { header }: LuksVolume): CliError | null {
  if (!isQcow2Error(error, 'WRONG_PASSPHRASE') && activeSlots(header).length > 0) return null;
  return new CliError('Invalid password, cannot unlock any keyslot', { cause: error });
}

function payloadStorage(inner: Storage, offset: number, cipher: SectorCipher | null): HostStorage {
  const payload = windowStorage(inner, { offset, size: null });
  const data = cipher && new EncryptedData(payload, cipher, 'guest');
  const opened = (): EncryptedData => {
    if (data !== null) return data;
    throw new Qcow2Error('KEY_NEEDED', 'the disk is encrypted (LUKS), and no key was given');
  };
  return {
    get size() {
      return payload.size;
    },
    get readOnly() {
      return payload.readOnly;
    },
    read: (at, target) => opened().read(at, target, at),
    write: (at, source) => opened().write(at, source, at),
    truncate: (size) => payload.truncate(size),
    flush: () => payload.flush(),
    close: () => {
      cipher?.wipe();
      payload.close();
    },
  };
}
