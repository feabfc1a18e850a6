/** `amend`: other options for an image that exists. */
import { INCOMPATIBLE_COMPRESSION_TYPE, INCOMPATIBLE_DIRTY } from '../../format/features.js';
import { hasDataFile, isDataFileRaw } from '../../format/header.js';
import { BadSnapshotL1 } from '../../format/snapshot-table.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { RefcountDoesNotFit } from '../../metadata/refcount-width.js';
import { amendImage, type AmendOptions } from '../../operations/amend.js';
import { listSnapshots } from '../../operations/snapshots/list-snapshots.js';
import { snapshotL1Refusal } from '../graph/qcow2-refusal.js';
import { strerror } from '../text/errno.js';
import { CliError, UsageError } from '../text/messages.js';
import { boolOption, isJoinable, optionHelp, wantsHelp } from '../text/option-list.js';
import { toNumber } from '../text/sizes.js';
import { amendKeySlots } from './amend-key-slots.js';
import { IMAGE_OPTS, joinOptionLists, letter, MessageLines, OBJECT, readCommandLine, type Command } from './command.js';
import { joinTables, OptionValues, QCOW2_AMEND, QCOW2_CREATE } from './creation-options.js';
import { isFormatName } from './formats.js';
import { cacheMode, openImageArgument, referenceTo } from './open-image.js';
import { Progress } from './progress.js';
import { checkNewSize } from './resize-rules.js';

const FORCE = { name: 'force', long: 'force' };

export const run: Command = async (args, context) => {
  let list: string | null = null;
  const letters = [letter('o', true), letter('f', true), letter('t', true), letter('p'), letter('q')];
  const line = readCommandLine(args, [...letters, FORCE, OBJECT, IMAGE_OPTS], context, ({ name, value }) => {
    if (name === 'o') list = joinOptionLists(list, value, isJoinable);
  });
  const { console, interrupts } = context;
  const options = list as string | null;
  if (options === null) throw new UsageError('Must specify options (-o)');
  const format = line.value('f');
  if (format !== undefined && wantsHelp(options)) {
    console.out(amendHelp(format));
    return 0;
  }
  const [name] = line.operands;
  if (name === undefined || line.operands.length > 1) throw new CliError('Expecting one image file name');
  const cache = cacheMode(line.value('t') ?? 'writeback');
  const image = { name, format, imageOpts: line.has('image-opts') };
  const node = await openImageArgument(context, image, { cache, secrets: line.secrets });
  const progress = new Progress(console, { enabled: line.has('p') && !line.has('q'), minSkip: 1 });
  try {
    if (wantsHelp(options)) {
      console.out(amendHelp(node.driver));
      return 0;
    }
    if (node.image === null) throw noAmendment(node.driver);
    const values = parseValues(options);
    progress.set(0);
    const change = changeOf(node.image, values);
    if (values.entries().some(([key]) => key.startsWith('encrypt.'))) {
      const secret = referenceTo(image).options?.get('encrypt.key-secret');
      const keys = { secrets: line.secrets, openedWith: typeof secret === 'string' ? secret : undefined };
      await amendKeySlots(node.image, values, { ...keys, force: line.has('force') });
    }
    const { version, ...others } = change;
    const show = shower(progress);
    // As in QEMU, a downgrade comes last, and that it can't be is found when all else has been done.
    const downgrade = version < node.image.header.version;
    await interrupts.run(amendImage(node.image, downgrade ? others : change), show);
    if (downgrade) {
      checkDowngrade(node.image);
      await interrupts.run(amendImage(node.image, { version }), show);
    }
    progress.set(100);
  } catch (error) {
    if (error instanceof BadSnapshotL1) throw unexpandable(error);
    throw error instanceof RefcountDoesNotFit ? inQemusWords(error, options) : error;
  } finally {
    progress.end();
    node.close();
  }
  return 0;
};

/** Shows each share once: the last step of a job may come with the share of the one before it. */
function shower(progress: Progress): (step: { readonly done: number; readonly total: number }) => void {
  let last = 0;
  return ({ done, total }) => {
    const percent = (100 * done) / total;
    if (percent !== last) progress.set(percent);
    last = percent;
  };
}

function amendHelp(format: string): string {
  if (format === 'qcow2') return `Amend options for 'qcow2':\n${optionHelp(QCOW2_AMEND)}`;
  throw noAmendment(format);
}

function noAmendment(format: string): CliError {
  if (!isFormatName(format)) return new CliError(`Unknown file format '${format}'`);
  return new CliError(`Format driver '${format}' does not support option amendment`);
}

/** An option that only a new image can be given is said to be one. */
function parseValues(list: string): OptionValues {
  const values = new OptionValues(QCOW2_AMEND);
  try {
    values.parse(list);
    return values;
  } catch (error) {
    if (!(error instanceof CliError) || !isForCreation(list)) throw error;
    const hint = `${error.hint}This option is only supported for image creation\n`;
    throw new CliError(error.message, { hint, cause: error });
  }
}

function isForCreation(list: string): boolean {
  try {
    new OptionValues(joinTables(QCOW2_AMEND, QCOW2_CREATE)).parse(list);
    return true;
  } catch (error) {
    if (error instanceof CliError) return false;
    throw error;
  }
}

/** What the engine is asked for. Throws QEMU's messages for what can't be. */
function changeOf(image: Qcow2Image, values: OptionValues): AmendOptions & { readonly version: 2 | 3 } {
  const { header } = image;
  const version = versionOf(values.get('compat')) ?? header.version;
  const refcountBits = widthOf(values) ?? image.refcountBits;
  if (version < 3 && refcountBits !== 16) {
    const needed = 'compatibility level 1.1 or above (use compat=1.1 or greater)';
    if (refcountBits !== image.refcountBits) {
      throw new CliError(`Refcount widths other than 16 bits require ${needed}`);
    }
    throw new CliError('compat=0.10 requires refcount_bits=16');
  }
  const size = sizeOf(values);
  const lazy = values.get('lazy_refcounts');
  const lazyRefcounts = lazy === undefined ? {} : { lazyRefcounts: boolOption('lazy_refcounts', lazy) };
  const dataFile = dataFileOf(image, values);
  checkBacking(image, values);
  if (version < 3 && lazyRefcounts.lazyRefcounts === true) {
    const needed = 'compatibility level 1.1 and above (use compat=1.1 or greater)';
    throw new CliError(`Lazy refcounts only supported with ${needed}`);
  }
  if (size !== null) checkNewSize(image, size, Math.max(version, header.version));
  return { version, refcountBits, ...lazyRefcounts, ...dataFile, ...(size === null ? {} : { size }) };
}

function versionOf(compat: string | undefined): 2 | 3 | null {
  if (compat === undefined) return null;
  if (compat === '0.10' || compat === 'v2') return 2;
  if (compat === '1.1' || compat === 'v3') return 3;
  throw new CliError(`Unknown compatibility level ${compat}`);
}

function widthOf(values: OptionValues): number | null {
  const given = values.number('refcount_bits');
  if (given === undefined) return null;
  const bits = Number(given);
  if ([1, 2, 4, 8, 16, 32, 64].includes(bits)) return bits;
  throw new CliError('Refcount width must be a power of two and may not exceed 64 bits');
}

/** Null where it stays; 0 counts as not given. */
function sizeOf(values: OptionValues): number | null {
  const given = values.size('size') ?? 0n;
  if (given === 0n) return null;
  const size = toNumber(given);
  if (size === null) throw new CliError('The requested size is too large', { errno: 'EFBIG' });
  return size;
}

function dataFileOf({ header }: Qcow2Image, values: OptionValues): Pick<AmendOptions, 'dataFileName' | 'dataFileRaw'> {
  const name = values.get('data_file');
  if (name !== undefined && !hasDataFile(header)) {
    throw new CliError('data-file can only be set for images that use an external data file');
  }
  const word = values.get('data_file_raw');
  const raw = word === undefined ? undefined : boolOption('data_file_raw', word);
  if (raw === true && !isDataFileRaw(header)) {
    throw new CliError('data-file-raw cannot be set on existing images');
  }
  return {
    ...(name === undefined ? {} : { dataFileName: name === '' ? null : name }),
    ...(raw === undefined ? {} : { dataFileRaw: raw }),
  };
}

/** It may be named as it is. */
function checkBacking({ header }: Qcow2Image, values: OptionValues): void {
  const name = values.get('backing_file');
  const format = values.get('backing_fmt');
  if (name === undefined && format === undefined) return;
  const { backingFile } = header;
  if (name === backingFile?.name && format === (backingFile?.format ?? undefined)) return;
  throw new CliError('Cannot amend the backing file', { hint: "You can use 'qemu-img rebase' instead.\n" });
}

const LARGEST_VM_STATE = 2 ** 32 - 1;

function checkDowngrade(image: Qcow2Image): void {
  const { header, size } = image;
  if (hasDataFile(header)) throw new CliError('Cannot downgrade an image with a data file');
  const snapshots = listSnapshots(image);
  if (snapshots.some(({ vmStateBytes, diskSize }) => vmStateBytes > LARGEST_VM_STATE || diskSize !== size)) {
    throw new CliError('Internal snapshots prevent downgrade of image');
  }
  const features = header.incompatible & ~(INCOMPATIBLE_DIRTY | INCOMPATIBLE_COMPRESSION_TYPE);
  if (features === 0n) return;
  throw new CliError(`Cannot downgrade an image with incompatible features 0x${features.toString(16)} set`);
}

/** A downgrade goes through the tables of all snapshots. */
function unexpandable(cause: BadSnapshotL1): CliError {
  const { message, errno } = snapshotL1Refusal(cause);
  return new MessageLines([message, `Failed to turn zero into data clusters: ${strerror(errno)}`]);
}

function inQemusWords(cause: RefcountDoesNotFit, list: string): CliError {
  const bits = parseValues(list).get('refcount_bits');
  const where = `Cluster at offset 0x${cause.host.toString(16)} has a refcount of ${cause.refcount}`;
  return new CliError(`Cannot decrease refcount entry width to ${bits} bits: ${where}`, { cause });
}
