/**
 * Changing the backing file that an image names, and nothing else (QEMU: `qemu-img rebase -u`). What clusters do not hold
 * themselves is then read from the new one, so it must hold the same there; nobody checks that.
 *
 * Bitmaps stay as they are, as in QEMU: a disk that reads as before has not changed.
 *
 * An image that is open goes on with the backing disk it was opened with; the new one comes with the next open.
 */
import { Qcow2Error } from '../errors.js';
import { isDataFileRaw } from '../format/header.js';
import { EXTENSION_BACKING_FORMAT } from '../format/header-extensions.js';
import { withExtension } from '../format/extension-order.js';
import type { Qcow2Image } from '../image/qcow2-image.js';

export interface NewBackingFile {
  /** Recorded as it is; whoever opens the image decides what it leads to. */
  readonly name: string;
  readonly format: 'qcow2' | 'raw';
}

/** The same with the name of any format: recorded for software that knows it. Here such an image can't be opened with its chain. */
export interface ForeignBackingFile {
  readonly name: string;
  readonly foreignFormat: string;
}

/**
 * Records another backing file, or none for null. Stable when it returns. Throws `BAD_ARGUMENT`, or `LIMIT` for a name that
 * the first cluster has no room for; nothing has changed then.
 */
export function changeBackingFile(image: Qcow2Image, backing: NewBackingFile | ForeignBackingFile | null): void {
  const { header, writable } = image.changeableTables();
  if (backing !== null) checkBackingFile(image, backing);
  writable.order.flush();
  const recorded = backing === null ? null : 'format' in backing ? backing.format : backing.foreignFormat;
  const format = recorded === null ? null : new TextEncoder().encode(recorded);
  header.rewrite({
    ...header.value,
    backingFile: backing === null ? null : { name: backing.name, format: recorded },
    extensions: withExtension(header.value.extensions, EXTENSION_BACKING_FORMAT, format),
  });
}

/** Throws `BAD_ARGUMENT` for what an image can't record. */
export function checkBackingFile(image: Qcow2Image, backing: NewBackingFile | ForeignBackingFile): void {
  if (backing.name === '')
    throw new Qcow2Error('BAD_ARGUMENT', 'the name of the backing file is empty; null removes it');
  const format = 'format' in backing ? backing.format : 'raw';
  if (format !== 'qcow2' && format !== 'raw') {
    const given = JSON.stringify(format);
    throw new Qcow2Error('BAD_ARGUMENT', `the format of the backing file is ${given}; it must be qcow2 or raw`);
  }
  if (isDataFileRaw(image.header)) {
    throw new Qcow2Error('BAD_ARGUMENT', 'an image whose external data file is raw can have no backing file');
  }
}
