/**
 * What `convert` and `measure` read: one disk or several, one behind the other, or a disk as an internal snapshot has it.
 */
import { isQcow2Error } from '../../errors.js';
import type { Extent } from '../../disk.js';
import { BadSnapshotL1 } from '../../format/snapshot-table.js';
import { findSnapshot } from '../../operations/snapshots/list-snapshots.js';
import { openSnapshot, type SnapshotView } from '../../operations/snapshots/open-snapshot.js';
import type { SnapshotKey } from '../../operations/snapshots/snapshot-info.js';
import { alignUp } from '../../util/integers.js';
import type { BlockNode } from '../graph/block-node.js';
import { chainStatus } from '../graph/chain-status.js';
import { snapshotL1Refusal } from '../graph/qcow2-refusal.js';
import { CliError, withPrefix } from '../text/messages.js';
import { parseOptionList } from '../text/option-list.js';
import { MessageLines } from './command.js';

const SECTOR = 512;

export interface SourceStatus {
  /** Bytes for which it holds. */
  readonly length: number;
  readonly data: boolean;
  readonly zero: boolean;
}

/** A disk to be copied. Its size is whole sectors. */
export interface CopySource {
  readonly size: number;
  /** Requests that begin and end at multiples of it cost least. */
  readonly alignment: number;
  /** Without what the first backing file has, if `aboveBacking`: that is neither data nor zero then. */
  status(offset: number, length: number, aboveBacking: boolean): SourceStatus;
  /** What lies behind the end is zeroes. */
  read(offset: number, target: Uint8Array): void;
}

export function nodeSource(node: BlockNode): CopySource {
  return {
    size: alignUp(node.size, SECTOR),
    alignment: node.image?.clusterSize ?? SECTOR,
    status(offset, length, aboveBacking) {
      if (offset >= node.size) return { length, data: false, zero: true };
      const range = { offset, length: Math.min(length, node.size - offset) };
      return chainStatus(node, range, aboveBacking ? node.backing : null);
    },
    read: (offset, target) => readUpTo(node, offset, target),
  };
}

function readUpTo(disk: Pick<BlockNode, 'size' | 'read'>, offset: number, target: Uint8Array): void {
  const inside = Math.max(0, Math.min(target.length, disk.size - offset));
  disk.read(offset, target.subarray(0, inside));
  target.fill(0, inside);
}

/** The disk of a snapshot. Throws "Failed to load snapshot: ..." */
export function snapshotSource(node: BlockNode, key: SnapshotKey): CopySource {
  try {
    if (node.image === null)
      throw new CliError(
        `Block format '${node.driver}' used by device '' does not support temporarily loading internal snapshots`,
      );
    if (findSnapshot(node.image, key) === null) throw new CliError("Can't find snapshot");
    return viewSource(openSnapshot(node.image, key), node);
  } catch (error) {
    const known = error instanceof BadSnapshotL1 ? snapshotL1Refusal(error) : error;
    throw known instanceof CliError || isQcow2Error(known) ? withPrefix('Failed to load snapshot: ', known) : known;
  }
}

function viewSource(view: SnapshotView, { image, backing }: BlockNode): CopySource {
  return {
    size: view.size,
    alignment: image?.clusterSize ?? SECTOR,
    status(offset, length, aboveBacking) {
      const extent = firstOf(view.extents(offset, length));
      const { kind } = extent;
      if (kind === 'data' || kind === 'compressed') return { length: extent.length, data: true, zero: false };
      const shown = kind === 'backing' && backing !== null && offset < backing.size;
      if (!shown) return { length: extent.length, data: false, zero: true };
      const limit = Math.min(extent.length, backing.size - offset);
      return aboveBacking
        ? { length: limit, data: false, zero: false }
        : chainStatus(backing, { offset, length: limit });
    },
    read: (offset, target) => readUpTo(view, offset, target),
  };
}

function firstOf(extents: Iterable<Extent>): Extent {
  for (const extent of extents) return extent;
  throw new Error('internal: a range of a disk has no extent');
}

/** Several as one. */
export function joinSources(sources: readonly CopySource[]): CopySource {
  const [only] = sources;
  if (only !== undefined && sources.length === 1) return only;
  let start = 0;
  const parts = sources.map((source) => {
    const part = { source, start, end: start + source.size };
    start = part.end;
    return part;
  });
  const partAt = (offset: number) => parts.find(({ end }) => offset < end)!;
  return {
    size: start,
    alignment: Math.max(...sources.map(({ alignment }) => alignment)),
    status(offset, length, aboveBacking) {
      const { source, start: first, end } = partAt(offset);
      return source.status(offset - first, Math.min(length, end - offset), aboveBacking);
    },
    read(offset, target) {
      for (let done = 0; done < target.length;) {
        const { source, start: first, end } = partAt(offset + done);
        const count = Math.min(target.length - done, end - offset - done);
        source.read(offset + done - first, target.subarray(done, done + count));
        done += count;
      }
    },
  };
}

/** `-l`: an id or name, or `snapshot.id=...,snapshot.name=...`. */
export function snapshotKey(text: string): SnapshotKey {
  if (!text.startsWith('snapshot.')) return text;
  const { entries } = parseOptionList(text);
  const values = new Map(entries);
  const unknown = entries.find(([key]) => key !== 'snapshot.id' && key !== 'snapshot.name');
  if (unknown !== undefined) {
    throw new MessageLines([`Invalid parameter '${unknown[0]}'`, `Failed in parsing snapshot param '${text}'`]);
  }
  const id = values.get('snapshot.id');
  return id === undefined ? { name: values.get('snapshot.name') ?? '' } : { id };
}
