/** What the L2 tables say of a run of guest bytes: all of one kind, and contiguous in the host where it lies anywhere. */
import type { HostOffset } from '../disk.js';
import type { CompressedDescriptor } from '../format/compressed-descriptor.js';

/** A place in the host that has been allocated for a run. */
export interface Allocation {
  readonly host: HostOffset;
  /** The refcount is exactly one: it may be written in place. */
  readonly copied: boolean;
}

/** Lengths are in guest bytes. */
export type MappedRun =
  | ({ readonly kind: 'data' | 'zero-allocated'; readonly length: number } & Allocation)
  | { readonly kind: 'zero'; readonly length: number }
  /** Not stored here. With extended L2 entries the cluster may be allocated all the same, for other subclusters. */
  | { readonly kind: 'unallocated'; readonly length: number; readonly reserved: Allocation | null }
  /** Up to the end of the cluster, at most. */
  | { readonly kind: 'compressed'; readonly length: number; readonly descriptor: CompressedDescriptor };
