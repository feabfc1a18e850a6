/**
 * Writing: carries a write plan out, step by step: the data goes to the storage first, then the cluster is linked in the
 * cached L2 table, which the write order brings to the file behind it.
 *
 * Everything that could fault, the head and tail that copy-on-write carries over, has been read before.
 */
import type { GuestOffset, HostOffset } from '../disk.js';
import type { Allocator } from '../metadata/allocator.js';
import type { L2Tables } from '../metadata/l2-tables.js';
import type { OverlapGuard } from '../metadata/overlap-guard.js';
import type { Storage } from '../storage/storage.js';
import type { WriteStep } from './write-plan.js';

export interface WriteTarget {
  readonly storage: Storage;
  readonly clusterSize: number;
  readonly allocator: Allocator;
  readonly guard: OverlapGuard;
  readonly l2: L2Tables;
}

/** The bytes of whole clusters: those written, and what is carried over on both sides. */
export interface WriteData {
  readonly offset: GuestOffset;
  readonly source: Uint8Array;
  /** The bytes before `source`, back to the start of its first cluster; empty when that one is written in place. */
  readonly head: Uint8Array;
  /** The bytes after `source`, up to the end of its last cluster; empty when that one is written in place. */
  readonly tail: Uint8Array;
}

export function executeWrite(target: WriteTarget, steps: readonly WriteStep[], data: WriteData): void {
  for (const step of steps) {
    switch (step.kind) {
      case 'in-place': {
        const from = step.offset - data.offset;
        target.guard.check(step.host, step.length, 'guest data');
        target.storage.write(step.host, data.source.subarray(from, from + step.length));
        break;
      }
      case 'reuse':
        target.guard.check(step.host, step.count * target.clusterSize, 'guest data');
        fillAndLink(target, step, step.host, data);
        break;
      case 'allocate':
        allocateAndFill(target, step, data);
        break;
    }
  }
}

interface ClusterSpan {
  readonly cluster: number;
  readonly count: number;
}

function allocateAndFill(target: WriteTarget, span: ClusterSpan, data: WriteData): void {
  let done = 0;
  while (done < span.count) {
    const run = target.allocator.allocate(span.count - done);
    fillAndLink(target, { cluster: span.cluster + done, count: run.count }, run.host, data);
    done += run.count;
  }
}

function fillAndLink(target: WriteTarget, span: ClusterSpan, host: HostOffset, data: WriteData): void {
  fillClusters(target, span, host, data);
  target.l2.linkData(span.cluster, span.count, host);
}

/** Writes whole clusters. Where head or tail belong to them, the parts are joined: one write costs less than two. */
function fillClusters(target: WriteTarget, span: ClusterSpan, host: HostOffset, data: WriteData): void {
  const { clusterSize, storage } = target;
  const start = span.cluster * clusterSize;
  const end = start + span.count * clusterSize;
  const dataEnd = data.offset + data.source.length;
  const hasHead = start < data.offset;
  const hasTail = end > dataEnd;
  if (!hasHead && !hasTail) {
    storage.write(host, data.source.subarray(start - data.offset, end - data.offset));
    return;
  }
  const headEnd = hasHead ? Math.min(end, start + clusterSize) : start;
  const tailStart = hasTail ? Math.max(headEnd, end - clusterSize) : end;
  if (hasHead) storage.write(host, joined(data, start, headEnd));
  if (tailStart > headEnd) {
    const middle = data.source.subarray(headEnd - data.offset, tailStart - data.offset);
    storage.write(host + headEnd - start, middle);
  }
  if (tailStart < end) storage.write(host + tailStart - start, joined(data, tailStart, end));
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
