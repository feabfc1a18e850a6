/** What an export may be of, as the page asks the worker for it. Types only. */
import type { EncryptionSettings } from '../image/unlock-image.js';
import type { NewBackingFile } from '../operations/change-backing.js';
import type { SnapshotKey } from '../operations/snapshots/snapshot-info.js';

/** Whether the clusters of a copy are compressed, and how: `true` as the compression type of the disk says. */
export type Compression = boolean | 'deflate' | 'zstd';

/** How a copy is made. */
export interface CopySettings {
  /** Encrypts the copy by this, with a key of its own. Unless told it is encrypted as the disk is. */
  readonly encryption?: EncryptionSettings;
  /** Unless told clusters are not compressed. Not with encryption. */
  readonly compress?: Compression;
}

/**
 * - `disk`: one standalone qcow2, flattened, with or without the snapshots
 * - `snapshot`: the same of the disk of one snapshot
 * - `overlay`: what the file itself holds of the disk, or of the disk of one snapshot, over the same backing file; `backing` is recorded
 *   instead of its name
 * - `increment`: what is marked in a bitmap, as a qcow2 over the one before
 * - `file`: the file as it is
 */
export type ExportContent =
  | ({ readonly of: 'disk'; readonly snapshots: boolean } & CopySettings)
  | ({ readonly of: 'snapshot'; readonly key: SnapshotKey } & CopySettings)
  | ({ readonly of: 'overlay'; readonly key?: SnapshotKey; readonly backing?: NewBackingFile } & CopySettings)
  | ({ readonly of: 'increment'; readonly bitmap: string; readonly backing?: NewBackingFile } & Pick<
      CopySettings,
      'encryption'
    >)
  | { readonly of: 'file' };

/** What can be saved as it is made. */
export type SavedContent = Extract<ExportContent, { of: 'disk' | 'snapshot' | 'overlay' }>;
