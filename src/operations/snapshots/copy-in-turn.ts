/**
 * The parts of `copy-with-snapshots.ts`, disk by disk: find the closest relative, go there, make the size right, copy what
 * differs, copy the VM state, make the snapshot.
 *
 * - After each disk the target's active disk holds the same as it.
 * - A part that throws `NotResident` can be made again: what it reads of the source it reads before it changes the target.
 * - Of the snapshots copied, the last few are kept open in the source: they are looked through for relatives.
 */
import type { Disk, HostOffset } from '../../disk.js';
import { SECTOR_BYTES } from '../../format/limits.js';
import { publishSize } from '../../image/grow-disk.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { unmapFrom } from '../../image/unmap-from.js';
import type { MappedRun } from '../../metadata/mapped-run.js';
import { alignUp } from '../../util/integers.js';
import { sequence, singleStep, stepsOf, type Steps } from '../../util/steps.js';
import { copyDifferences } from './copy-differences.js';
import { createSnapshot } from './create-snapshot.js';
import { differingBytes, type KnownDisk } from './disk-differences.js';
import { gotoSnapshot } from './goto-snapshot.js';
import { openSnapshot, type SnapshotView } from './open-snapshot.js';
import type { SnapshotInfo } from './snapshot-info.js';
import { writeVmStateLike } from './vm-state.js';
import type { Part } from './weighted-parts.js';

/** Each has tables in memory. */
const MOST_RELATIVES = 8;

/** Bytes of VM state moved in one step: whole clusters, whatever their size. */
const STATE_STEP_BYTES = 2 * 1024 * 1024;

/** What a new image holds. */
const NOTHING: KnownDisk = { size: 0, extents: () => [] };

export class CopyInTurn {
  readonly #source: Qcow2Image;
  readonly #target: Qcow2Image;
  readonly #compress: boolean;
  /** Snapshots of the source that the target has, the latest first. */
  readonly #held: SnapshotView[] = [];
  /** The one that the disk under way is copied over; null for the first of all. */
  #relative: SnapshotView | null = null;
  #current: SnapshotView | null = null;

  /** @param compress whether all of the target is compressed; what is so in the source stays so otherwise only in VM states. */
  constructor(source: Qcow2Image, target: Qcow2Image, compress: boolean) {
    this.#source = source;
    this.#target = target;
    this.#compress = compress;
  }

  snapshot(info: SnapshotInfo): Part[] {
    const what = `copying the snapshot "${info.name}"`;
    const open = (): SnapshotView => (this.#current ??= openSnapshot(this.#source, { id: info.id }));
    return [
      ...this.#disk(what, info.diskSize, open),
      { what, bytes: info.vmStateBytes, start: () => this.#copyVmState(open()) },
      { what, bytes: 0, start: () => singleStep(what, () => this.#makeSnapshot(open())) },
    ];
  }

  activeDisk(disk: Disk): Part[] {
    return this.#disk('copying the disk', disk.size, () => disk);
  }

  #disk(what: string, bytes: number, open: () => Disk): Part[] {
    return [
      { what, bytes: 0, start: () => this.#findRelative(open()) },
      { what, bytes: 0, start: () => this.#takeRelative(open()) },
      { what, bytes, start: () => this.#copyDisk(open()) },
    ];
  }

  /** Of several that are equally close it is the latest. */
  #findRelative(disk: Disk): Steps {
    const candidates = [...this.#held];
    let least = Infinity;
    let index = 0;
    this.#relative = null;
    return stepsOf(() => {
      const candidate = candidates[index];
      if (candidate === undefined || least === 0) return null;
      const bytes = differingBytes(disk, candidate, least);
      if (bytes < least) [least, this.#relative] = [bytes, candidate];
      index++;
      return { done: index, total: candidates.length, what: 'comparing disks' };
    });
  }

  /** The target's active disk becomes the relative, with the size of the disk to come. */
  #takeRelative({ size }: Disk): Steps {
    return sequence([
      () => singleStep('going to a snapshot', () => this.#goToRelative()),
      () => resized(this.#target, alignUp(size, SECTOR_BYTES)),
    ]);
  }

  #goToRelative(): void {
    const relative = this.#relative;
    // The latest of all is what the disk is already.
    if (relative === null || relative === this.#held[0]) return;
    gotoSnapshot(this.#target, { id: relative.info.id }, { vmState: 'drop' });
  }

  #copyDisk(source: Disk): Steps {
    const [target, compress] = [this.#target, this.#compress];
    return copyDifferences({ source, relative: this.#relative ?? NOTHING, target, compress });
  }

  /** Clusters that are compressed stay so, and those that an earlier VM state has are shared with it. */
  #copyVmState(view: SnapshotView): Steps {
    const total = view.info.vmStateBytes;
    const like = this.#closestVmState(view);
    const buffer = new Uint8Array(Math.min(STATE_STEP_BYTES, total));
    let offset = 0;
    return stepsOf(() => {
      if (offset >= total) return null;
      const source = buffer.subarray(0, Math.min(STATE_STEP_BYTES, total - offset));
      view.readVmState(offset, source);
      const compress = this.#compress || this.#isCompressed(view, offset, source.length);
      writeVmStateLike(this.#target, { offset, source, like, compress });
      offset += source.length;
      return { done: offset, total, what: 'copying a VM state' };
    });
  }

  #isCompressed(view: SnapshotView, offset: number, length: number): boolean {
    for (let at = offset; at < offset + length; at += this.#source.clusterSize) {
      if (view.vmStateRun(at)?.kind === 'compressed') return true;
    }
    return false;
  }

  /** In the target: the one of which the most is shared in the source. Memory may have another history than the disk. */
  #closestVmState(view: SnapshotView): SnapshotView | null {
    const held = this.#held.filter(({ info }) => info.vmStateBytes > 0);
    const shared = held.map((other) => sharedVmState(view, other, this.#source.clusterSize));
    const closest = held[shared.indexOf(Math.max(...shared))];
    return closest === undefined ? null : openSnapshot(this.#target, { id: closest.info.id });
  }

  #makeSnapshot(view: SnapshotView): void {
    const { id, name, date, vmClock, instructionCount, vmStateBytes } = view.info;
    createSnapshot(this.#target, { id, name, date, vmClock, instructionCount, vmStateBytes });
    this.#held.unshift(view);
    this.#held.splice(MOST_RELATIVES);
    this.#current = null;
  }
}

/** The file keeps its length: what is freed is used for the next disk. */
function resized(target: Qcow2Image, size: number): Steps {
  if (size === target.size) return sequence([]);
  if (size > target.size) return singleStep('growing the disk', () => target.resize(size));
  return sequence([
    () => singleStep('publishing the size', () => publishSize(target.changeableTables(), size)),
    () => unmapFrom(target, size),
  ]);
}

/** Clusters of VM state that lie in the same place. */
function sharedVmState(one: SnapshotView, other: SnapshotView, clusterSize: number): number {
  const end = Math.min(one.info.vmStateBytes, other.info.vmStateBytes);
  let shared = 0;
  for (let at = 0; at < end; at += clusterSize) {
    const host = hostOf(one.vmStateRun(at));
    if (host !== null && host === hostOf(other.vmStateRun(at))) shared++;
  }
  return shared;
}

function hostOf(run: MappedRun | null): HostOffset | null {
  if (run?.kind === 'data') return run.host;
  return run?.kind === 'compressed' ? run.descriptor.host : null;
}
