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
  for (const step of steps) {
    switch (step.kind) {
      case 'in-place': {
        const from = step.offset - data.offset;
        target.check(step.host, step.length);
        target.data.write(step.host, data.source.subarray(from, from + step.length), step.offset);
        break;
      }
      case 'reuse':
        target.check(step.host, step.count * target.clusterSize);
        fillAndLink(target, step, step.host, data);
        break;
      case 'allocate':
        allocateAndFill(target, step, data);
        break;
    }
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
  const first = span.cluster * target.clusterSize;
  const last = (span.cluster + span.count - 1) * target.clusterSize;
  fill(target, span, host + span.start - first, data);
  target.l2.linkData(span.cluster, span.count, host, { from: span.start - first, to: span.end - last });
}

/** Writes the span at `host`. Where head or tail belong to it, the parts are joined: one write costs less than two. */
function fill(target: WriteTarget, { start, end }: Span, host: HostOffset, data: WriteData): void {
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
