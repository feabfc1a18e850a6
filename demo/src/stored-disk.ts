/**
 * What the demo keeps in OPFS, all in one folder:
 *
 *   disk.qcow2          the visitor's disk: an overlay over a base, or an image the visitor opened
 *   base-<key>.qcow2    a base image that an earlier version of this page stored whole
 *   incoming.qcow2      an image on its way in; it becomes disk.qcow2 in one step
 *
 * Any of the first and the last may be encrypted. No passphrase is kept.
 *
 * A fresh disk stands on the base image of the server, of which the parts that were read are kept in a folder of their own. It names the
 * version that it was made over, and never takes another. Bases that no disk names go with a reset.
 */
import {
  deleteFile,
  importImage,
  listFiles,
  openDisk,
  Qcow2Error,
  renameFile,
  type DiskInfo,
  type OpenDiskOptions,
  type OpfsDisk,
  type RequiredEncryption,
  type StoredFile,
} from 'qcow2-wasm/opfs';
import { MAXIMUM_DISK_BYTES } from 'qcow2-wasm/v86';
import { BASE_NAME, baseImage } from './base-image.js';
import { forgetDisk } from './disk-ledger.js';
import { TAKE_OVER } from './disk-for-tab.js';

/** The folder in OPFS. */
export const directory = 'qcow2-wasm-demo';

const DISK = 'disk.qcow2';
const INCOMING = 'incoming.qcow2';

/** One sector: v86 takes no smaller disk. */
const MINIMUM_DISK_BYTES = 512;
const BOOT_SECTOR_BYTES = 512;
const BOOT_MARK = [0x55, 0xaa];

/** Half of the usual time to try a passphrase: who opens the page waits for it each time (demo/README.md has what it comes to). */
const PROTECTION = { format: 'luks', iterTime: 1000 } as const;

/**
 * Copies `disk`, with its snapshots and encrypted, takes the copy in beside it, and makes sure that `passphrase` opens it. The disk
 * must not be written meanwhile.
 */
export async function stageProtectedCopy(
  disk: OpfsDisk,
  passphrase: string,
  onProgress: (fraction: number) => void,
): Promise<void> {
  const encryption = { ...PROTECTION, passphrase };
  const copy = await disk.exportImage({
    encryption,
    onProgress: ({ done, total }) => onProgress(total > 0 ? done / total / 2 : 0.5),
  });
  await stageImage(copy, (fraction) => onProgress((1 + fraction) / 2));
  try {
    await tryStagedImage(passphrase, PROTECTION.format);
  } catch (error) {
    await discardStagedImage();
    throw error;
  }
}

/** Rejects with `WRONG_PASSPHRASE` for the old one, and `LIMIT` where no key slot is free. */
export async function changePassphraseOf(disk: OpfsDisk, passphrase: string, newPassphrase: string): Promise<void> {
  await disk.changePassphrase({ passphrase, newPassphrase, iterTime: PROTECTION.iterTime });
}

/**
 * Opens the stored disk; where there is none, a fresh overlay over the base. Rejects with a `Qcow2Error`.
 * @param passphrase of the stored disk if it has one; it protects a fresh one. @param takesOver asks another tab to let go of it.
 */
export async function openStoredDisk(passphrase?: string, takesOver = false): Promise<OpfsDisk> {
  const files = await listFiles({ directory });
  const bases = files.filter(isBase).map(({ name }) => name);
  // What a page that ended between import and rename has left. Only who has the disk open may clear it away.
  const leftOver = files.some(({ name }) => name === INCOMING) ? [INCOMING] : [];
  if (files.some(({ name }) => name === DISK)) {
    const disk = await openUnlocked(DISK, [...bases, baseImage()], { passphrase, takesOver });
    await deleteIfPossible(leftOver);
    return disk;
  }
  const disk = await createOverlay(passphrase);
  await deleteIfPossible([...leftOver, ...bases]);
  return disk;
}

type Backing = NonNullable<OpenDiskOptions['backing']>;

interface Unlocking {
  readonly passphrase?: string | undefined;
  /** What it has to be encrypted as; default: whatever it is, as long as a passphrase means something to it. */
  readonly encryption?: RequiredEncryption | undefined;
  readonly takesOver?: boolean;
}

/** @throws `KEY_NEEDED`, `WRONG_PASSPHRASE` for an encrypted disk, `BAD_ARGUMENT` for a passphrase that protects nothing. */
async function openUnlocked(name: string, backing: Backing, unlocking: Unlocking): Promise<OpfsDisk> {
  const { passphrase, encryption = true, takesOver = false } = unlocking;
  const unlock = passphrase === undefined ? {} : { passphrase, requireEncryption: encryption };
  const disk = await openDisk({ directory, name, backing, ...unlock, takeOver: takesOver && TAKE_OVER });
  try {
    if (disk.info.encryption === 'aes') await checkBootSector(disk);
    return disk;
  } catch (error) {
    await disk.close().catch(() => undefined);
    throw error;
  }
}

/**
 * Legacy AES has nothing that tells a wrong passphrase from the right one: everything reads as noise with it, and what is written
 * is lost. But a disk that boots has a mark in its first sector.
 */
async function checkBootSector(disk: OpfsDisk): Promise<void> {
  const sector = await disk.read(0, BOOT_SECTOR_BYTES);
  if (BOOT_MARK.every((byte, index) => sector[BOOT_SECTOR_BYTES - BOOT_MARK.length + index] === byte)) return;
  throw new Qcow2Error('WRONG_PASSPHRASE', 'the disk has no boot sector with this passphrase (legacy AES)');
}

/** A disk that could not be made stable is closed again, or its worker would keep it locked. */
async function createOverlay(passphrase?: string): Promise<OpfsDisk> {
  const backing = { name: BASE_NAME, format: 'qcow2' } as const;
  const protection = passphrase === undefined ? {} : { passphrase, create: { backing, encryption: PROTECTION } };
  const disk = await openDisk({ directory, name: DISK, backing: [baseImage()], create: { backing }, ...protection });
  try {
    await disk.flush();
    return disk;
  } catch (error) {
    await disk.close().catch(() => undefined);
    throw error;
  }
}

/** Clears away what nobody needs. A file that stays is tried again another time; the disk works either way. */
async function deleteIfPossible(names: readonly string[]): Promise<void> {
  const deleteOne = (name: string): Promise<void> =>
    deleteFile({ directory, name }).catch((error: unknown) => console.warn(`${name} could not be deleted`, error));
  await Promise.all(names.map(deleteOne));
}

/** Throws the stored disk away. It must be closed. */
export async function deleteStoredDisk(): Promise<void> {
  await deleteFile({ directory, name: DISK });
  forgetDisk(DISK);
}

/**
 * Takes an image in beside the disk, and resolves with what it is. Rejects if it does not open as a qcow2 or is a disk that v86
 * can't take; the disk is untouched either way.
 */
export async function stageImage(image: Blob, onProgress: (fraction: number) => void): Promise<DiskInfo> {
  const info = await importImage({ directory, name: INCOMING }, image, {
    onProgress: ({ done, total }) => onProgress(total > 0 ? done / total : 0),
  });
  const { size } = info;
  if (size >= MINIMUM_DISK_BYTES && size <= MAXIMUM_DISK_BYTES) return info;
  await discardStagedImage();
  throw new Qcow2Error(
    size < MINIMUM_DISK_BYTES ? 'BAD_ARGUMENT' : 'LIMIT',
    `the image holds a disk of ${size} bytes; v86 takes ${MINIMUM_DISK_BYTES} to ${MAXIMUM_DISK_BYTES}`,
  );
}

/** Rejects with `WRONG_PASSPHRASE` unless `passphrase` opens the image that was taken in, `encryption` being what it must have. */
export async function tryStagedImage(passphrase: string, encryption?: RequiredEncryption): Promise<void> {
  const disk = await openUnlocked(INCOMING, [], { passphrase, encryption });
  await disk.close();
}

export function discardStagedImage(): Promise<void> {
  return deleteIfPossible([INCOMING]);
}

/** Puts the image that was taken in in place of the disk, in one step. Both must be closed. */
export function commitStagedImage(): Promise<void> {
  return renameFile({ directory, name: INCOMING }, DISK);
}

function isBase({ name }: StoredFile): boolean {
  return name.startsWith('base-');
}
