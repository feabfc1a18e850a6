/**
 * What the demo keeps in OPFS, all in one folder:
 *
 *   disk.qcow2, disk-<name>.qcow2   the visitor's disks: overlays over a base, or images the visitor took in (disk-names.ts)
 *   base-<key>.qcow2                a base image that an earlier version of this page stored whole
 *   incoming.qcow2                  an image on its way in, or a fresh disk; it becomes a disk in one step
 *
 * Any of the first and the last may be encrypted. No passphrase is kept. The way in is one lane for all tabs (`door.ts`).
 *
 * A fresh disk stands on the base image of the server, of which the parts that were read are kept in a folder of their own. It names the
 * version that it was made over, and never takes another. Stored bases that no disk names go with a reset, or with the last that does.
 */
import {
  deleteFile,
  importImage,
  isQcow2Error,
  listFiles,
  openDisk,
  Qcow2Error,
  renameFile,
  storeFile,
  type DiskInfo,
  type ErrorCode,
  type ImageSource,
  type JobOptions,
  type OpenDiskOptions,
  type OpfsDisk,
  type RequiredEncryption,
  type StoredFile,
} from 'qcow2-wasm/opfs';
import { MAXIMUM_DISK_BYTES } from 'qcow2-wasm/v86';
import { allowedBases, baseImage } from './base-image.js';
import { TAKE_OVER } from './disk-for-tab.js';
import { fileNameOf } from './disk-names.js';
import { ifNobodyAtTheDoor } from './door.js';

/** The folder in OPFS. */
export const directory = 'qcow2-wasm-demo';

const INCOMING = 'incoming.qcow2';

/** One sector: v86 takes no smaller disk. */
const MINIMUM_DISK_BYTES = 512;
const BOOT_SECTOR_BYTES = 512;
const BOOT_MARK = [0x55, 0xaa];

/** What an image is found to be, when it is opened. */
const OF_AN_IMAGE: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'NOT_QCOW2',
  'BAD_IMAGE',
  'CORRUPT',
  'UNSUPPORTED',
  'BACKING',
]);
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
  await stageImage(copy, { onProgress: ({ done, total }) => onProgress(total > 0 ? (1 + done / total) / 2 : 1) });
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
 * Opens the disk of that name; where there is none, a fresh overlay over the base. Rejects with a `Qcow2Error`.
 * @param passphrase of the stored disk if it has one; it protects a fresh one. @param takesOver asks another tab to let go of it.
 */
export async function openStoredDisk(name: string, passphrase?: string, takesOver = false): Promise<OpfsDisk> {
  const files = await listFiles({ directory });
  const bases = files.filter(isBase).map((file) => file.name);
  const isThere = files.some((file) => file.name === fileNameOf(name));
  const disk = isThere
    ? await openUnlocked(fileNameOf(name), [...bases, ...allowedBases()], { passphrase, takesOver })
    : await createOverlay(name, passphrase);
  // What a page has left that ended while it took an image in.
  if (files.some((file) => file.name === INCOMING)) await ifNobodyAtTheDoor(discardStagedImage);
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
  if (await hasBootSector(disk)) return;
  throw new Qcow2Error('WRONG_PASSPHRASE', 'the disk has no boot sector with this passphrase (legacy AES)');
}

async function hasBootSector(disk: OpfsDisk): Promise<boolean> {
  const sector = await disk.read(0, BOOT_SECTOR_BYTES);
  return BOOT_MARK.every((byte, index) => sector[BOOT_SECTOR_BYTES - BOOT_MARK.length + index] === byte);
}

/**
 * A fresh disk over the base, which must be none of a disk that is there. One that could not be made stable is closed again, or its worker
 * would keep it locked.
 * @throws Qcow2Error `BAD_IMAGE` where the base is no image to stand on; it names the base's address, as what a server fails with does.
 */
export function createOverlay(name: string, passphrase?: string): Promise<OpfsDisk> {
  return createOverlayFile(fileNameOf(name), passphrase);
}

async function createOverlayFile(name: string, passphrase?: string): Promise<OpfsDisk> {
  const base = baseImage();
  const backing = { name: base.name, format: 'qcow2' } as const;
  const protection = passphrase === undefined ? {} : { passphrase, create: { backing, encryption: PROTECTION } };
  const opened = openDisk({ directory, name, backing: [base], create: { backing }, ...protection });
  const disk = await opened.catch((error: unknown) => {
    if (!isQcow2Error(error) || !OF_AN_IMAGE.has(error.code) || error.message.includes(base.url.href)) throw error;
    throw new Qcow2Error('BAD_IMAGE', `${base.url.href} is no base image: ${error.message}`, { cause: error });
  });
  try {
    await disk.flush();
    return disk;
  } catch (error) {
    await disk.close().catch(() => undefined);
    throw error;
  }
}

/** Makes a fresh disk beside those that there are, in place of an image on its way in. What fails leaves nothing of it. */
export async function stageFreshDisk(passphrase?: string): Promise<void> {
  await deleteFile({ directory, name: INCOMING });
  try {
    await (await createOverlayFile(INCOMING, passphrase)).close();
  } catch (error) {
    await discardStagedImage();
    throw error;
  }
}

/** Clears away what nobody needs. A file that stays is tried again another time; the disk works either way. */
export async function deleteIfPossible(names: readonly string[]): Promise<void> {
  const deleteOne = (name: string): Promise<void> =>
    deleteFile({ directory, name }).catch((error: unknown) => console.warn(`${name} could not be deleted`, error));
  await Promise.all(names.map(deleteOne));
}

/**
 * Takes an image in beside the disks, qcow2 or raw, and resolves with what it is. Rejects if it is none, or is a disk that v86 can't take or
 * can't boot from; the disks are untouched either way. Over a base image it may stand on the one of this site, in the version that it names.
 */
export async function stageImage(image: ImageSource, options: JobOptions): Promise<DiskInfo> {
  const info = await importImage({ directory, name: INCOMING, backing: allowedBases() }, image, options);
  try {
    checkSize(info);
    if (info.encryption === null) await checkStagedBoots();
    return info;
  } catch (error) {
    await discardStagedImage();
    throw error;
  }
}

function checkSize({ size }: DiskInfo): void {
  if (size >= MINIMUM_DISK_BYTES && size <= MAXIMUM_DISK_BYTES) return;
  throw new Qcow2Error(
    size < MINIMUM_DISK_BYTES ? 'BAD_ARGUMENT' : 'LIMIT',
    `the image holds a disk of ${size} bytes; v86 takes ${MINIMUM_DISK_BYTES} to ${MAXIMUM_DISK_BYTES}`,
  );
}

/** Takes in a copy of a disk as it is. */
export async function stageFile(file: Blob, options: JobOptions): Promise<void> {
  await storeFile({ directory, name: INCOMING }, file, options);
}

/** Rejects with `UNSUPPORTED` for a plain image without a boot sector: anything of whole sectors could be a raw disk. */
async function checkStagedBoots(): Promise<void> {
  const disk = await openUnlocked(INCOMING, allowedBases(), {});
  try {
    if (await hasBootSector(disk)) return;
    throw new Qcow2Error('UNSUPPORTED', 'the image has no boot sector, so that no machine could start from it');
  } finally {
    await disk.close();
  }
}

/** Rejects with `WRONG_PASSPHRASE` unless `passphrase` opens the image that was taken in, `encryption` being what it must have. */
export async function tryStagedImage(passphrase: string, encryption?: RequiredEncryption): Promise<void> {
  const disk = await openUnlocked(INCOMING, allowedBases(), { passphrase, encryption });
  await disk.close();
}

export function discardStagedImage(): Promise<void> {
  return deleteIfPossible([INCOMING]);
}

/**
 * Makes the image that was taken in the disk `name`, in one step, in place of the one that it is to replace. Both must be closed. Resolves with
 * `name`.
 */
export async function commitStagedImage(name: string): Promise<string> {
  await renameFile({ directory, name: INCOMING }, fileNameOf(name));
  return name;
}

/** Makes the image that was taken in a new disk. Rejects with `BAD_ARGUMENT` if there is one of that name, from whichever tab. */
export async function commitNewDisk(name: string): Promise<void> {
  await renameFile({ directory, name: INCOMING }, fileNameOf(name), { overwrite: false });
}

/** Whether a file of the folder is a base image. */
export function isBase({ name }: Pick<StoredFile, 'name'>): boolean {
  return name.startsWith('base-');
}
