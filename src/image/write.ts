/**
 * Writing: carries a write plan out, step by step: the data goes to the storage first, then the cluster is linked in the
 * cached L2 table, which the write order brings to the file behind it.
 *
 * Everything that could fault, the head and tail that copy-on-write carries over, has been read before.
 */
import type { GuestOffset, HostOffset } from '../disk.js';
import type { ClusterRun } from '../metadata/allocator.js';
import type { L2Tables } from '../metadata/l2-tables.js';
import type { GuestData } from '../storage/guest-data.js';
import type { FillStep, WriteStep } from './write-plan.js';

export interface WriteTarget {
  readonly data: GuestData;
  readonly clusterSize: number;
  readonly l2: L2Tables;
  /** A place for guest clusters `cluster .. cluster + want`, or the first of them. */
  allocate(cluster: number, want: number): ClusterRun;
  /** Throws `CORRUPT` when guest data would overwrite metadata. */
  check(host: HostOffset, length: number): void;
}

/** The bytes written, and what is carried over on both sides. */
export interface WriteData {
  readonly offset: GuestOffset;
  readonly source: Uint8Array;
  /** The bytes before `source` that are filled as well. */
  readonly head: Uint8Array;
  /** The bytes after `source` that are filled as well. */
  readonly tail: Uint8Array;
}

export function executeWrite(target: WriteTarget, steps: readonly WriteStep[], data: WriteData): void {
  for (let index = 0; index < steps.length;) {
    const step = steps[index]!;
    if (step.kind === 'allocate') {
      allocateAndFill(target, step, data);
      index++;
    } else {
      index = overwrite(target, steps, index, data);
    }
  }
}

/** Writes step `index`, whose place is known, and those that lie in one piece with it. Returns the index of the next. */
function overwrite(target: WriteTarget, steps: readonly WriteStep[], index: number, data: WriteData): number {
  const { start, host } = placeOf(steps[index]!, target.clusterSize)!;
  let end = start;
  let next = index;
  for (; next < steps.length; next++) {
    const place = placeOf(steps[next]!, target.clusterSize);
    if (place === null || place.start !== end || place.host !== host + end - start) break;
    target.check(place.host, place.end - place.start);
    end = place.end;
  }
  fill(target, { start, end }, host, data);
  for (const step of steps.slice(index, next)) if (step.kind === 'reuse') link(target, step, step.host);
  return next;
}

interface Place {
  readonly start: GuestOffset;
  readonly end: GuestOffset;
  /** Of `start`. */
  readonly host: HostOffset;
}

/** What a step writes where; null where it has no place yet. */
function placeOf(step: WriteStep, clusterSize: number): Place | null {
  switch (step.kind) {
    case 'in-place':
      return { start: step.offset, end: step.offset + step.length, host: step.host };
    case 'reuse':
      return { start: step.start, end: step.end, host: step.host + step.start - step.cluster * clusterSize };
    case 'allocate':
      return null;
  }
}

/** What part of which clusters is filled. */
type Span = Pick<FillStep, 'cluster' | 'count' | 'start' | 'end'>;

function allocateAndFill(target: WriteTarget, step: Span, data: WriteData): void {
  const { clusterSize } = target;
  let done = 0;
  target.l2.prepare(step.cluster, step.count);
  while (done < step.count) {
    const cluster = step.cluster + done;
    const run = target.allocate(cluster, step.count - done);
    const start = Math.max(step.start, cluster * clusterSize);
    const end = Math.min(step.end, (cluster + run.count) * clusterSize);
    fillAndLink(target, { cluster, count: run.count, start, end }, run.host, data);
    done += run.count;
  }
}

function fillAndLink(target: WriteTarget, span: Span, host: HostOffset, data: WriteData): void {
  fill(target, span, host + span.start - span.cluster * target.clusterSize, data);
  link(target, span, host);
}

/** Clusters at `host` become data, as far as they have been filled. */
function link(target: WriteTarget, { cluster, count, start, end }: Span, host: HostOffset): void {
  const first = cluster * target.clusterSize;
  const last = (cluster + count - 1) * target.clusterSize;
  target.l2.linkData(cluster, count, host, { from: start - first, to: end - last });
}

/** Writes the span at `host`. Where head or tail belong to it, the parts are joined: one write costs less than two. */
function fill(
  target: WriteTarget,
  { start, end }: Pick<Span, 'start' | 'end'>,
  host: HostOffset,
  data: WriteData,
): void {
  const { clusterSize } = target;
  const dataEnd = data.offset + data.source.length;
  const headEnd = start < data.offset ? Math.min(end, data.offset + clusterSize) : start;
  const tailStart = end > dataEnd ? Math.max(headEnd, dataEnd - clusterSize) : end;
  if (start < headEnd) target.data.write(host, joined(data, start, headEnd), start);
  if (headEnd < tailStart) {
    const middle = data.source.subarray(headEnd - data.offset, tailStart - data.offset);
    target.data.write(host + headEnd - start, middle, headEnd);
  }
  if (tailStart < end) target.data.write(host + tailStart - start, joined(data, tailStart, end), tailStart);
}

/** The guest bytes from `start` to `end`, put together from head, source and tail. */
function joined(data: WriteData, start: GuestOffset, end: GuestOffset): Uint8Array {
  const bytes = new Uint8Array(end - start);
  const place = (part: Uint8Array, at: GuestOffset) => {
    const from = Math.max(start, at);
    const to = Math.min(end, at + part.length);
    if (from < to) bytes.set(part.subarray(from - at, to - at), from - start);
  };
  place(data.head, data.offset - data.head.length);
  place(data.source, data.offset);
  place(data.tail, data.offset + data.source.length);
  return bytes;
}
