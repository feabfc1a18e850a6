/**
 * Read plan: a guest range and the tables in, extents out. It moves no data; executing the plan is `read.ts`. The same
 * plan serves reads, block status and copying.
 */
import type { Extent, GuestOffset } from '../disk.js';
import type { MappedRun } from '../metadata/mapped-run.js';

/** What a plan needs to know of an image. */
export interface Mapping {
  readonly clusterSize: number;
  /** What can be allocated apart: the cluster size but with extended L2 entries. */
  readonly subclusterSize: number;
  readonly hasBacking: boolean;
  /** Clusters are filled up to here at most: the end of the disk where that is the end of a file of its own. */
  readonly fillLimit: GuestOffset;
  /** The run of bytes that map alike from `offset` on, at most `limit` long. */
  runAt(offset: GuestOffset, limit: number): MappedRun;
  /** What is stored of the cluster at `guest` and must be carried over when it moves, in bytes of the cluster. */
  storedPart(guest: GuestOffset): { readonly from: number; readonly to: number } | null;
}

/** The extents of `length` bytes from `offset`, in order and without gaps. The range lies inside the disk. */
export function* planRead(mapping: Mapping, offset: GuestOffset, length: number): Generator<Extent> {
  const end = offset + length;
  let at = offset;
  while (at < end) {
    const run = mapping.runAt(at, end - at);
    yield extentOf(run, at, mapping.hasBacking);
    at += run.length;
  }
}

function extentOf(run: MappedRun, offset: GuestOffset, hasBacking: boolean): Extent {
  const { length } = run;
  switch (run.kind) {
    case 'data':
      return { kind: 'data', offset, length, host: run.host };
    case 'zero-allocated':
      return { kind: 'zero', offset, length, host: run.host };
    case 'zero':
      return { kind: 'zero', offset, length };
    case 'compressed':
      return { kind: 'compressed', offset, length, host: run.descriptor.host, hostLength: run.descriptor.length };
    case 'unallocated': {
      const room = run.reserved === null ? {} : { host: run.reserved.host };
      return { kind: hasBacking ? 'backing' : 'unallocated', offset, length, ...room };
    }
  }
}
