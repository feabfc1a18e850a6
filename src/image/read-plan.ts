/**
 * Read plan: a guest range and the tables in, extents out. It moves no data; executing the plan is `read.ts`. The same
 * plan serves reads, block status and copying.
 */
import type { Extent, GuestOffset } from '../disk.js';
import type { MappedRun } from '../metadata/l2-tables.js';

/** What a plan needs to know of an image. */
export interface Mapping {
  readonly clusterSize: number;
  readonly hasBacking: boolean;
  /** The run of clusters that map alike from `cluster` on, at most `limit` long. */
  run(cluster: number, limit: number): MappedRun;
}

/** The extents of `length` bytes from `offset`, in order and without gaps. The range lies inside the disk. */
export function* planRead(mapping: Mapping, offset: GuestOffset, length: number): Generator<Extent> {
  const { clusterSize } = mapping;
  const end = offset + length;
  let at = offset;
  while (at < end) {
    const cluster = Math.floor(at / clusterSize);
    const run = mapping.run(cluster, Math.ceil(end / clusterSize) - cluster);
    const within = at - cluster * clusterSize;
    const stop = Math.min(end, (cluster + run.count) * clusterSize);
    yield extentOf(run, { offset: at, length: stop - at, within, hasBacking: mapping.hasBacking });
    at = stop;
  }
}

function extentOf(
  run: MappedRun,
  part: { readonly offset: number; readonly length: number; readonly within: number; readonly hasBacking: boolean },
): Extent {
  const { offset, length, within } = part;
  switch (run.kind) {
    case 'data':
      return { kind: 'data', offset, length, host: run.host + within };
    case 'zero-allocated':
      return { kind: 'zero', offset, length, host: run.host + within };
    case 'zero':
      return { kind: 'zero', offset, length };
    case 'compressed':
      return { kind: 'compressed', offset, length, host: run.descriptor.host, hostLength: run.descriptor.length };
    case 'unallocated':
      return { kind: part.hasBacking ? 'backing' : 'unallocated', offset, length };
  }
}
