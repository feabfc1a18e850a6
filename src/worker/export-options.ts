/** What a page may ask of an export, and how that is told to the worker. */
import { Qcow2Error } from '../errors.js';
import type { EncryptionSettings } from '../image/unlock-image.js';
import type { NewBackingFile } from '../operations/change-backing.js';
import type { SnapshotKey } from '../operations/snapshots/snapshot-info.js';
import type { Compression, SavedContent } from './export-content.js';
import type { JobOptions } from './job-options.js';

export interface ExportOptions extends JobOptions {
  /**
   * - `disk`: everything, what backing files hold too; the image stands alone
   * - `overlay`: what the visitor has changed, over the same backing file; without snapshots
   *
   * Default `disk`.
   */
  readonly content?: 'disk' | 'overlay';
  /** The disk of this snapshot, an id or else a name, instead of that of now. The image has no snapshots then. */
  readonly snapshot?: SnapshotKey;
  /** Whether the disk of now comes with its snapshots. True unless told; not for an overlay. */
  readonly snapshots?: boolean;
  /** Of an overlay: what it records as its backing file, instead of the name that the disk has recorded. */
  readonly backing?: NewBackingFile;
  /** Encrypts the copy by this, with a key of its own. Unless told it is encrypted as the disk is, by the same passphrases. */
  readonly encryption?: EncryptionSettings;
  /** Compresses clusters: `true` as the disk's compression type says. Takes longer. An encrypted copy can't be compressed. */
  readonly compress?: Compression;
}

/** @throws Qcow2Error `BAD_ARGUMENT` for options against each other. */
export function exportContent(options: ExportOptions): SavedContent {
  const { content = 'disk', snapshot, snapshots, backing, encryption, compress } = options;
  const settings = { ...(encryption && { encryption }), ...(compress !== undefined && { compress }) };
  if (content === 'overlay') {
    if (snapshots === true) refuse('snapshots is true; an overlay is exported without them');
    return {
      of: 'overlay',
      ...(snapshot !== undefined && { key: snapshot }),
      ...(backing && { backing }),
      ...settings,
    };
  }
  if (content !== 'disk') refuse(`content is ${JSON.stringify(content)}; it must be disk or overlay`);
  if (backing !== undefined) refuse('backing is for an overlay; a disk is exported without a backing file');
  if (snapshot !== undefined) return { of: 'snapshot', key: snapshot, ...settings };
  return { of: 'disk', snapshots: snapshots ?? true, ...settings };
}

function refuse(message: string): never {
  throw new Qcow2Error('BAD_ARGUMENT', message);
}
