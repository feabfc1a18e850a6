/**
 * `qcow2`: an image of the engine over another node, with its key, its external data file and its backing node.
 *
 * What the engine refuses is said in QEMU's words where QEMU refuses it as well.
 */
import { createNodeSectorCipher } from '../../crypto/node-sector-cipher.js';
import { isQcow2Error } from '../../errors.js';
import { hasDataFile, type Header } from '../../format/header.js';
import { encryptionFormat, type ImageEncryption } from '../../image/image-encryption.js';
import { openImage, type OpenOptions } from '../../image/open.js';
import { readVolume, unlockImage } from '../../image/unlock-image.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { forgetLostBitmaps, hasLostBitmaps } from '../../operations/bitmaps/bitmaps.js';
import { readHeader } from '../../metadata/header-state.js';
import { MemoryStorage } from '../../storage/memory.js';
import { ReadOnlyStorage } from '../../storage/read-only.js';
import type { Storage } from '../../storage/storage.js';
import { fullBackingName } from '../text/file-name.js';
import { CliError, reportWarning, type Console } from '../text/messages.js';
import type { BlockNode, NodeOptions } from './block-node.js';
import { CorruptionNotes } from './corruption-notes.js';
import type { Driver, OpenContext } from './driver.js';
import { invalidPassword } from './luks-driver.js';
import { Qcow2Node } from './qcow2-node.js';
import { RUNTIME_OPTIONS, takeRuntimeOptions } from './qcow2-options.js';
import { refusalOf, snapshotsRefusalOf } from './qcow2-refusal.js';
import { repairDirtyImage } from './repair-dirty-image.js';
import { shownName } from './shown-name.js';

export const qcow2Driver: Driver = {
  name: 'qcow2',
  kind: 'format',
  strong: ['encrypt.'],
  async open(context) {
    const { options, flags } = context;
    const file = context.file!;
    const { readOnly = false, unmap = false } = flags;
    const { storage } = file;
    const header = inQemusWords(storage, !readOnly, () => readHeader(storage));
    const given: NodeOptions = new Map([...options.rest].filter(([key]) => RUNTIME_OPTIONS.has(key)));
    const runtime = takeRuntimeOptions(options, header, { unmap });
    const encryption = await openEncryption(context, storage, header);
    const dataFile = await openDataFile(context, header);
    const isOverridden = overridesBacking(context, header);
    let backing: BlockNode | null = null;
    try {
      if (flags.check !== true) checkSnapshots(storage);
      if (!readOnly) repairDirtyImage(storage, header, flags.console);
      backing = await openBackingNode(context, header);
      const notes = new CorruptionNotes(flags.console, header);
      const parts: OpenOptions = {
        ...runtime,
        readOnly,
        backing: backing?.image ?? backing,
        ...dataStorage(header, dataFile),
        ...(encryption === undefined ? {} : { encryption }),
        onCorruption: (event) => notes.tell(event),
      };
      const image = inQemusWords(storage, !readOnly, () => openImage(storage, parts));
      warnOfLostBitmaps(image, flags.console);
      const ownBacking = isOverridden ? { backing } : {};
      const fileName = shownName({ driver: 'qcow2', file, strong: context.strong, ...ownBacking });
      const how = {
        console: flags.console,
        detectZeroes: context.detectZeroes,
        unmap,
        copyOnRead: flags.copyOnRead ?? false,
      };
      return new Qcow2Node({
        nodeName: context.nodeName,
        fileName,
        file,
        dataFile,
        backing,
        image,
        options: given,
        notes,
        ...how,
      });
    } catch (error) {
      encryption?.cipher.wipe();
      backing?.close();
      dataFile?.close();
      throw error;
    }
  },
};

/** What the engine throws, in QEMU's words where QEMU would not open the image either. */
function inQemusWords<T>(storage: Storage, writable: boolean, attempt: () => T): T {
  try {
    return attempt();
  } catch (error) {
    if (!isQcow2Error(error) || error.code === 'IO' || error.code === 'NO_SPACE') throw error;
    throw refusalOf(storage, { writable }) ?? error;
  }
}

/** The engine opens an image to be read whatever its snapshots are; QEMU does so for a check alone. */
function checkSnapshots(storage: Storage): void {
  const refusal = snapshotsRefusalOf(storage);
  if (refusal !== null) throw refusal;
}

/** Undefined for an image that is not encrypted; null to leave one locked. */
async function openEncryption(
  { options, flags }: OpenContext,
  storage: Storage,
  header: Header,
): Promise<ImageEncryption | null | undefined> {
  const format = encryptionFormat(header);
  const given = options.takeText('encrypt.format');
  const id = options.takeText('encrypt.key-secret');
  if (format === null) {
    if (given === undefined) return undefined;
    throw new CliError(`No encryption in image header, but options specified format '${given}'`);
  }
  if (given !== undefined && given !== format) {
    throw new CliError(`Header reported '${format}' encryption format but options specify '${given}'`);
  }
  if (flags.noIo === true) return null;
  if (id === undefined) throw new CliError("Parameter 'encrypt.key-secret' is required for cipher");
  const passphrase = flags.secrets?.lookup(id);
  if (passphrase === undefined) throw new CliError(`No secret with id '${id}'`);
  try {
    return await unlockImage(storage, passphrase, { createCipher: createNodeSectorCipher });
  } catch (error) {
    throw (format === 'luks' && invalidPassword(error, readVolume(storage, header))) || error;
  }
}

/** Null for an image that keeps its data itself. For information alone the data file is not touched. */
async function openDataFile(context: OpenContext, header: Header): Promise<BlockNode | null> {
  const { options, flags } = context;
  const below = options.takeUnder('data-file.');
  const reference = options.takeText('data-file');
  if (flags.noIo === true) return null;
  if (reference !== undefined) throw new CliError(`Cannot find device='${reference}' nor node-name='${reference}'`);
  if (!hasDataFile(header)) {
    if (below.isEmpty) return null;
    throw new CliError("'data-file' can only be set for images with an external data file");
  }
  const named = !below.has('filename') && !below.has('driver');
  if (named && header.dataFileName === null) throw new CliError("'data-file' is required for this image");
  return context.openChild(named ? header.dataFileName : null, below);
}

/** What the engine takes for the data file; an empty one where nobody is to look into it. */
function dataStorage(header: Header, node: BlockNode | null): { readonly dataFile?: Storage } {
  if (!hasDataFile(header)) return {};
  if (node === null) return { dataFile: new ReadOnlyStorage(new MemoryStorage()) };
  return { dataFile: node.readOnly ? new ReadOnlyStorage(node.storage) : node.storage };
}

/** Null for an image without one, and where it is not wanted. */
async function openBackingNode(context: OpenContext, header: Header): Promise<BlockNode | null> {
  const { options, flags } = context;
  const below = options.takeUnder('backing.');
  const reference = options.has('backing') ? options.take('backing') : undefined;
  if (flags.noBacking === true || reference === null || reference === '') return null;
  if (reference !== undefined)
    throw new CliError(`Cannot find device='${String(reference)}' nor node-name='${String(reference)}'`);
  const { backingFile } = header;
  if (backingFile === null && below.isEmpty) return null;
  if (backingFile?.format != null) below.setDefault('driver', backingFile.format);
  if (below.has('file.filename') || below.has('filename')) return context.openBacking(null, below);
  const name = fullBackingName(basePath(context.file!), backingFile?.name ?? '');
  return context.openBacking(name, below);
}

/** Whether the options name another backing file than the image, or none where it has one. For information alone that does not matter. */
function overridesBacking({ options, flags, file }: OpenContext, header: Header): boolean {
  if (flags.noBacking === true || flags.noIo === true) return false;
  const own = header.backingFile?.name ?? '';
  if (options.has('backing')) return own !== '';
  const given = options.peekText('backing.file.filename') ?? options.peekText('backing.filename');
  if (given === undefined) return false;
  const bottom = bottomOf(file!);
  return bottom.driver !== 'file' || given !== fullBackingName(bottom.fileName, own);
}

/** What relative names in the image are relative to: the file at the bottom. */
function basePath(node: BlockNode): string {
  const bottom = bottomOf(node);
  if (bottom.driver === 'file') return bottom.fileName;
  throw new CliError(`Cannot generate a base directory for ${bottom.driver} nodes`);
}

function bottomOf(node: BlockNode): BlockNode {
  let bottom = node;
  while (bottom.file !== null) bottom = bottom.file;
  return bottom;
}

/** Said until the image is opened for writing. The advice has no end of line, as QEMU's. */
function warnOfLostBitmaps(image: Qcow2Image, console: Console): void {
  if (!hasLostBitmaps(image)) return;
  const considered = 'considered inconsistent';
  reportWarning(
    console,
    image.header.version < 3
      ? `This qcow2 v2 image contains bitmaps, but they may have been modified by a program without persistent bitmap support; so now they must all be ${considered}`
      : `a program lacking bitmap support modified this file, so all bitmaps are now ${considered}`,
  );
  console.err("Some clusters may be leaked, run 'qemu-img check -r' on the image file to fix.");
  if (!image.readOnly) forgetLostBitmaps(image);
}
