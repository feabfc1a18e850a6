/**
 * `convert`: an image copied into another one, of another format or with other options. A target that was made for it and not finished
 * is removed again.
 */
import { hasDataFile } from '../../format/header.js';
import type { BlockNode } from '../graph/block-node.js';
import { openNode } from '../graph/open-node.js';
import { CliError, withPrefix } from '../text/messages.js';
import { boolOption, wantsHelp } from '../text/option-list.js';
import { readConvertLine, type ConvertLine } from './convert-line.js';
import type { Command, CommandContext } from './command.js';
import { checkBitmaps, copyBitmaps } from './copy-bitmaps.js';
import { CopyJob, type CopyOptions } from './copy-job.js';
import { joinSources, nodeSource, snapshotSource, type CopySource } from './copy-source.js';
import { OptionValues } from './creation-options.js';
import { creatableFormat, creationHelp, creationTable, newFilePath, type Format } from './formats.js';
import { makeImage, type NewFiles } from './new-image.js';
import { cacheMode, openImageArgument } from './open-image.js';
import { Progress } from './progress.js';

export const run: Command = async (args, context) => {
  const line = readConvertLine(args, context);
  if (line.options !== null && wantsHelp(line.options)) {
    if (line.format === null) throw new CliError('Option help requires a format be specified');
    context.console.out(creationHelp(creatableFormat(line.format), line.target));
    return 0;
  }
  if (line.target === undefined) throw new CliError('Must specify image file name');
  const sourceCache = cacheMode(line.sourceCache, 'source cache');
  const progress = new Progress(context.console, { enabled: line.progress && !line.quiet, minSkip: 1 });
  const conversion = new Conversion(context, { ...line, target: line.target }, progress);
  try {
    progress.add(0);
    await conversion.run(sourceCache);
    progress.set(100);
  } finally {
    conversion.close();
    progress.end();
  }
  return 0;
};

type Line = ConvertLine & { readonly target: string };

class Conversion {
  readonly #context: CommandContext;
  readonly #line: Line;
  readonly #progress: Progress;
  readonly #sources: BlockNode[] = [];
  #target: BlockNode | null = null;

  constructor(context: CommandContext, line: Line, progress: Progress) {
    this.#context = context;
    this.#line = line;
    this.#progress = progress;
  }

  close(): void {
    this.#target?.close();
    this.#target = null;
    for (const node of this.#sources.splice(0)) node.close();
  }

  async run(sourceCache: ReturnType<typeof cacheMode>): Promise<void> {
    const line = this.#line;
    for (const name of line.sources) {
      const image = { name, format: line.sourceFormat, imageOpts: line.imageOpts };
      const flags = { readOnly: true, cache: sourceCache, forceShare: line.forceShare, secrets: line.secrets };
      this.#sources.push(await openImageArgument(this.#context, image, flags));
    }
    const source = this.#source();
    const values = line.skipCreate ? null : this.#creationValues(source.size);
    const backing = values === null ? line.backing : (values.get('backing_file') ?? line.backing);
    this.#checkTogether(values, backing);
    const files = values === null ? null : await this.#make(values);
    try {
      await this.#copy(source, values, backing !== undefined);
      this.#finish();
    } catch (error) {
      const target = this.#target;
      this.#target = null;
      // What it could not write any more does not matter: it is removed.
      files?.remove();
      target?.close();
      throw error;
    }
  }

  #source(): CopySource {
    const { snapshot } = this.#line;
    if (snapshot === null) return joinSources(this.#sources.map(nodeSource));
    if (this.#sources.length > 1 && typeof snapshot === 'string') {
      throw new CliError('No support for concatenating multiple snapshot');
    }
    const [first, ...others] = this.#sources;
    return joinSources([snapshotSource(first!, snapshot), ...others.map(nodeSource)]);
  }

  #creationValues(size: number): OptionValues {
    const { options, backing, backingFormat } = this.#line;
    const format = this.#format();
    newFilePath(this.#line.target);
    const values = new OptionValues(creationTable(format));
    if (options !== null) values.parse(options);
    values.set('size', String(size));
    if (backing !== undefined && !values.set('backing_file', backing)) {
      throw new CliError(`Backing file not supported for file format '${format}'`);
    }
    if (backingFormat !== undefined && !values.set('backing_fmt', backingFormat)) {
      throw new CliError(`Backing file format not supported for file format '${format}'`);
    }
    return values;
  }

  #format(): Format {
    return creatableFormat(this.#line.format ?? 'raw');
  }

  /** What does not go with each other. */
  #checkTogether(values: OptionValues | null, backing: string | undefined): void {
    const { targetIsZero, compressed, bitmaps, skipBrokenBitmaps } = this.#line;
    if (targetIsZero && backing !== undefined) {
      throw new CliError('Cannot use --target-is-zero when the destination image has a backing file');
    }
    if (this.#sources.length > 1 && backing !== undefined) {
      const why = 'makes no sense when concatenating multiple input images';
      throw new CliError(`Having a backing file for the target ${why}`);
    }
    if (values?.get('backing_file') !== undefined && values.get('backing_fmt') === undefined) {
      throw new CliError('Use of backing file requires explicit backing format');
    }
    if (compressed && values !== null) this.#checkCompression(values);
    if (bitmaps) checkBitmaps(this.#sources, skipBrokenBitmaps);
  }

  #checkCompression(values: OptionValues): void {
    if (this.#format() !== 'qcow2') throw new CliError('Compression not supported for this file format');
    const encryption = values.get('encryption');
    const encrypted = encryption !== undefined && boolOption('encryption', encryption);
    if (encrypted || values.get('encrypt.format') !== undefined) {
      throw new CliError('Compression and encryption not supported at the same time');
    }
    if ((values.get('preallocation') ?? 'off') !== 'off') {
      throw new CliError('Compression and preallocation not supported at the same time');
    }
  }

  async #make(values: OptionValues): Promise<NewFiles> {
    const { target: fileName, secrets } = this.#line;
    const format = this.#format();
    const { interrupts } = this.#context;
    try {
      return await makeImage({ fileName, format, values, secrets, interrupts });
    } catch (error) {
      throw withPrefix(`${fileName}: error while converting ${format}: `, error);
    }
  }

  async #copy(source: CopySource, values: OptionValues | null, targetHasBacking: boolean): Promise<void> {
    const line = this.#line;
    const target = await this.#openTarget(values);
    this.#target = target;
    if (line.compressed && target.driver !== 'qcow2') {
      throw new CliError('Compression not supported for this file format');
    }
    if (line.bitmaps && (target.image === null || target.image.header.version < 3)) {
      throw new CliError(`Format driver '${target.driver}' does not support bitmaps`);
    }
    if (line.skipCreate && target.size < source.size) throw new CliError('output file is smaller than input file');
    const isNew = !line.skipCreate;
    const mayTrustZeroes = isNew && line.minSparse > 0 && !targetHasBacking;
    const options: CopyOptions = {
      source,
      target,
      targetHasBacking,
      compressed: line.compressed,
      minSparse: line.minSparse,
      hasZeroInit: line.targetIsZero || (mayTrustZeroes && readsAsZeroes(target, values)),
      backingSize: targetHasBacking && isNew ? (target.backing?.size ?? null) : null,
      salvage: line.salvage,
      quiet: line.quiet,
      rateLimit: line.rateLimit,
      progress: this.#progress,
    };
    await new CopyJob(this.#context, options).run();
    if (line.bitmaps) copyBitmaps(this.#context.console, this.#sources[0]!, target);
  }

  async #openTarget(values: OptionValues | null): Promise<BlockNode> {
    const { target: name, secrets, targetImageOpts, minSparse, format } = this.#line;
    const flags = { cache: cacheMode(this.#line.cache), unmap: minSparse > 0, secrets };
    if (values === null) {
      const image = {
        name,
        format: targetImageOpts ? (format ?? undefined) : (format ?? 'raw'),
        imageOpts: targetImageOpts,
      };
      return openImageArgument(this.#context, image, flags);
    }
    const keys = values.entries().filter(([key]) => key.endsWith('key-secret'));
    const options = new Map([...keys, ['driver', this.#format()] as const]);
    try {
      return await openNode({ fileName: name, options }, { ...flags, console: this.#context.console });
    } catch (error) {
      throw withPrefix(`Could not open '${name}': `, error);
    }
  }

  /** What closing would only tell of is an error here. */
  #finish(): void {
    const target = this.#target!;
    try {
      target.flush();
    } catch (error) {
      throw withPrefix(`error while writing '${this.#line.target}': `, error);
    }
  }
}

/**
 * Whether a new image reads as zeroes where nothing was written: not one that is encrypted as a whole, or is encrypted and has its
 * clusters already.
 */
function readsAsZeroes({ image, driver }: BlockNode, values: OptionValues | null): boolean {
  if (image === null) return driver === 'raw';
  const preallocated = (values?.get('preallocation') ?? 'off') !== 'off' || hasDataFile(image.header);
  return !preallocated || image.header.cryptMethod === 0;
}
