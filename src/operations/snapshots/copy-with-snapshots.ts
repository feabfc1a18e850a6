/**
 * Copying an image with its snapshots into a fresh one that stands alone: what backing files hold is copied in, VM states
 * come along, and what disks or VM states have in common takes its room once.
 *
 *   source          target, in the order of the file
 *
 *   A -- B -- now   A | snapshot A | where B differs from A | snapshot B | back to A | where C differs from A | snapshot C
 *    \-- C          | back to B | where the disk of now differs from B
 *
 * Each disk is copied over its closest relative in the target: the one of which the most lies in the same place in the source.
 * The target's own copy-on-write then shares again what was shared. VM states find theirs in the same way.
 *
 * Left behind are bitmaps, the snapshot of an export (`export-moment.ts`), a VM state that belongs to no snapshot, and extra data of snapshots that is unknown here.
 */
import { Qcow2Error } from '../../errors.js';
import { SECTOR_BYTES } from '../../format/limits.js';
import type { CreateOptions } from '../../image/create-options.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { alignUp } from '../../util/integers.js';
import type { Steps } from '../../util/steps.js';
import { CopyInTurn } from './copy-in-turn.js';
import { isMoment } from './export-moment.js';
import { listSnapshots } from './list-snapshots.js';
import type { SnapshotView } from './open-snapshot.js';
import type { SnapshotInfo } from './snapshot-info.js';
import { partsInTurn } from './weighted-parts.js';

const WIDTHS = [1, 2, 4, 8, 16, 32, 64] as const;

export interface CopyWithSnapshotsOptions {
  /** Compresses all clusters of the target. Default false: VM states that are compressed stay so. */
  readonly compress?: boolean;
  /** The disk of now is what this snapshot of an export holds: so the source may be written meanwhile. */
  readonly now?: SnapshotView | undefined;
}

/**
 * With what `createImage` makes the target: as the source, but version 3 where disks of several sizes need it, and with
 * refcounts that can hold all snapshots of a cluster that was in a backing file.
 */
export function layoutForCopy(image: Qcow2Image, { now }: CopyWithSnapshotsOptions = {}): CreateOptions {
  const { header, clusterSize, refcountBits } = image;
  const { size } = now ?? image;
  const snapshots = copiedSnapshots(image);
  const version = snapshots.every(({ diskSize }) => diskSize === size) ? header.version : 3;
  const most = snapshots.length + 1;
  return {
    size: alignUp(snapshots[0]?.diskSize ?? size, SECTOR_BYTES),
    version,
    clusterSize,
    refcountBits: WIDTHS.find((bits) => bits >= refcountBits && 2 ** bits > most) ?? 64,
    compressionType: header.compressionType === 0 ? 'zlib' : 'zstd',
  };
}

/**
 * Copies all snapshots of `source` and its disk to `target`, which was made with `layoutForCopy`. Between the steps the
 * source may be read; it must not be changed, or else `options.now` says what is copied: then only its snapshots must stay. Throws `BAD_ARGUMENT` for a target that has snapshots or a backing file; steps
 * throw as `openSnapshot` and `createSnapshot` do.
 */
export function copyWithSnapshots(
  source: Qcow2Image,
  target: Qcow2Image,
  options: CopyWithSnapshotsOptions = {},
): Steps {
  const { snapshotCount, backingFile } = target.header;
  if (snapshotCount > 0 || backingFile !== null) {
    const what = `${snapshotCount} snapshots and ${backingFile === null ? 'no' : 'a'} backing file`;
    throw new Qcow2Error('BAD_ARGUMENT', `the target has ${what}; it must be a new image that stands alone`);
  }
  const { compress = false, now } = options;
  const copy = new CopyInTurn(source, target, compress);
  const snapshots = copiedSnapshots(source).flatMap((info) => copy.snapshot(info));
  return partsInTurn([...snapshots, ...copy.activeDisk(now ?? source)]);
}

/** In the order of the file. Throws as `listSnapshots` does. */
export function copiedSnapshots(image: Qcow2Image): SnapshotInfo[] {
  return listSnapshots(image).filter((snapshot) => !isMoment(snapshot));
}
