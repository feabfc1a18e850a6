/**
 * Amending an image: changing, in one job, options it was created with (QEMU: `qemu-img amend`). What version 3 is needed for
 * comes after the upgrade, what version 2 can't have before the downgrade:
 *
 *   version 3 -> refcount width -> external data file -> lazy refcounts -> size -> backing file -> version 2
 *
 * All that can be refused is refused before anything changes, but for a refcount that does not fit a smaller width: that is
 * found on the way, before its own change begins. Each change is complete or not there when a crash or the caller ends the
 * job.
 *
 * QEMU has refused to amend the backing file since 6.1, in favour of its `rebase -u`. Here it may be part of the job.
 */
import { Qcow2Error } from '../errors.js';
import { AUTOCLEAR_RAW_DATA_FILE, COMPATIBLE_LAZY_REFCOUNTS } from '../format/features.js';
import { withExtension } from '../format/extension-order.js';
import { hasDataFile, isDataFileRaw } from '../format/header.js';
import { EXTENSION_DATA_FILE } from '../format/header-extensions.js';
import { checkResize } from '../image/check-resize.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import { RefcountWidthChange } from '../metadata/refcount-width.js';
import { sequence, singleStep, stepsOf, type Steps } from '../util/steps.js';
import { changeBackingFile, checkBackingFile, type NewBackingFile } from './change-backing.js';
import { checkDowngrade, downgradeVersion, upgradeVersion } from './change-version.js';
import { resizeImage } from './resize.js';

/** What is left out stays as it is. */
export interface AmendOptions {
  readonly version?: 2 | 3;
  /** 1, 2, 4 .. 64; version 2 has 16 only. */
  readonly refcountBits?: number;
  readonly lazyRefcounts?: boolean;
  /** Bytes; a smaller disk loses what lies behind its end. */
  readonly size?: number;
  /** Recorded only, see `change-backing.ts`. Null for none. */
  readonly backing?: NewBackingFile | null;
  /** The name recorded for the external data file, which must be the same file elsewhere; null to record none. */
  readonly dataFileName?: string | null;
  /** False: the external data file need not read as the disk does any more. It can't be made to afterwards. */
  readonly dataFileRaw?: boolean;
}

const WIDTHS: readonly number[] = [1, 2, 4, 8, 16, 32, 64];

/** Throws `BAD_ARGUMENT`, `UNSUPPORTED` or `LIMIT` at once for what can't be; nothing has changed then. */
export function amendImage(image: Qcow2Image, options: AmendOptions): Steps {
  image.changeableTables();
  const { version: oldVersion } = image.header;
  const { version = oldVersion, refcountBits, lazyRefcounts, size, backing, dataFileName, dataFileRaw } = options;
  checkVersion(image, options);
  checkDataFile(image, options);
  if (size !== undefined) checkResize(image, size, Math.max(oldVersion, version) === 3 ? 3 : 2);
  if (backing) checkBackingFile(image, backing);
  const jobs: (() => Steps)[] = [];
  if (version > oldVersion) jobs.push(() => upgradeVersion(image));
  if (refcountBits !== undefined && refcountBits !== image.refcountBits) {
    jobs.push(() => changeRefcountWidth(image, refcountBits));
  }
  if (dataFileName !== undefined || (dataFileRaw === false && isDataFileRaw(image.header))) {
    jobs.push(() => singleStep('changing the data file', () => changeDataFile(image, options)));
  }
  if (lazyRefcounts !== undefined && lazyRefcounts !== isLazy(image)) {
    jobs.push(() => singleStep('changing lazy refcounts', () => changeLazyRefcounts(image, lazyRefcounts)));
  }
  // A disk grows over the backing disk that is open, and that is not the new one.
  if (size !== undefined && size !== image.size) jobs.push(() => resizeImage(image, { size, shrink: true }));
  if (backing !== undefined) {
    jobs.push(() => singleStep('changing the backing file', () => changeBackingFile(image, backing)));
  }
  if (version < oldVersion) jobs.push(() => downgradeVersion(image));
  return sequence(jobs);
}

/** Changes the width of the refcounts. Steps throw `LIMIT` when one of them does not fit; nothing has changed then. */
function changeRefcountWidth(image: Qcow2Image, bits: number): Steps {
  const change = new RefcountWidthChange(image, bits);
  return stepsOf(
    () => {
      const progress = change.step();
      if (progress !== null) return progress;
      const unused = change.oldClusters();
      image.reloadTables();
      const { allocator } = image.changeableTables().writable;
      for (const { host, count } of unused) allocator.free(host, count * image.clusterSize);
      image.flush();
      return null;
    },
    () => change.giveUp(),
  );
}

/** As the image says it; the caller may have opened it otherwise. */
function isLazy({ header }: Qcow2Image): boolean {
  return (header.compatible & COMPATIBLE_LAZY_REFCOUNTS) !== 0n;
}

function changeLazyRefcounts(image: Qcow2Image, lazy: boolean): void {
  const { header, writable } = image.changeableTables();
  // Without the option nobody clears the dirty bit, so it goes first.
  writable.order.makeClean();
  const others = header.value.compatible & ~COMPATIBLE_LAZY_REFCOUNTS;
  header.rewrite({ ...header.value, compatible: lazy ? others | COMPATIBLE_LAZY_REFCOUNTS : others });
}

function changeDataFile(image: Qcow2Image, { dataFileName, dataFileRaw }: AmendOptions): void {
  const { header, writable } = image.changeableTables();
  writable.order.flush();
  const { value } = header;
  const name = typeof dataFileName === 'string' ? new TextEncoder().encode(dataFileName) : null;
  header.rewrite({
    ...value,
    dataFileName: dataFileName === undefined ? value.dataFileName : dataFileName,
    extensions:
      dataFileName === undefined ? value.extensions : withExtension(value.extensions, EXTENSION_DATA_FILE, name),
    autoclear: dataFileRaw === false ? value.autoclear & ~AUTOCLEAR_RAW_DATA_FILE : value.autoclear,
  });
}

function checkVersion(image: Qcow2Image, options: AmendOptions): void {
  const { version: oldVersion } = image.header;
  const { version = oldVersion, refcountBits = image.refcountBits, lazyRefcounts } = options;
  if (version !== 2 && version !== 3)
    throw new Qcow2Error('BAD_ARGUMENT', `version is ${String(version)}; it must be 2 or 3`);
  if (!WIDTHS.includes(refcountBits)) {
    throw new Qcow2Error('BAD_ARGUMENT', `refcountBits is ${refcountBits}; it must be one of ${WIDTHS.join(', ')}`);
  }
  if (version === 2 && refcountBits !== 16) {
    throw new Qcow2Error('BAD_ARGUMENT', `refcountBits is ${refcountBits}; version 2 has 16 only`);
  }
  if (version === 2 && lazyRefcounts === true) throw new Qcow2Error('BAD_ARGUMENT', 'lazyRefcounts needs version 3');
  if (version < oldVersion) checkDowngrade(image, options.size ?? image.size);
}

function checkDataFile({ header }: Qcow2Image, { dataFileName, dataFileRaw }: AmendOptions): void {
  if (dataFileName !== undefined && !hasDataFile(header)) {
    throw new Qcow2Error(
      'BAD_ARGUMENT',
      'dataFileName is for images that have an external data file; this one has none',
    );
  }
  if (dataFileRaw === true && !isDataFileRaw(header)) {
    throw new Qcow2Error('BAD_ARGUMENT', 'dataFileRaw can be set when an image is created only');
  }
}
