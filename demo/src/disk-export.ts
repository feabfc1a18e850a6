/** What an export of the disk may have in it, as the page and scripts ask for it. */
import type { ExportOptions } from 'qcow2-wasm/opfs';
import { jobOptions, type CopyOptions } from './disk-copies.js';

export interface DiskExport extends CopyOptions {
  /** Everything, or only what lies over the base image, whose name and version it records. Default `disk`. */
  readonly content?: 'disk' | 'overlay';
  /** Whether the snapshots come along; never in an overlay. True unless told. */
  readonly snapshots?: boolean;
  readonly compress?: boolean;
}

/** The same, as the disk takes it. */
export function exportOptions({
  content = 'disk',
  snapshots = true,
  compress = false,
  ...job
}: DiskExport): ExportOptions {
  // An overlay records which version of the base it stands on, so that it can come back.
  return { content, compress, ...(content === 'disk' && { snapshots }), ...jobOptions(job) };
}
