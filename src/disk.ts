/**
 * Disk: what a guest sees. A flat run of bytes that can also say which of its parts hold data.
 *
 * Every call is synchronous and runs to its end; the event loop is the lock. A call may throw `NotResident`
 * (see `storage/not-resident.ts`) when a remote part is missing; it has changed nothing then, and `settle` runs it again.
 */

/** Bytes from the start of the disk as the guest sees it. */
export type GuestOffset = number;

/** Bytes from the start of a storage (the image file). */
export type HostOffset = number;

/**
 * A run of guest bytes of one kind.
 * - `data`: stored plainly at `host` of the disk's own storage
 * - `zero`: reads as zeroes; `host` is set where the cluster is allocated all the same
 * - `compressed`: stored compressed, one extent a cluster
 * - `backing`: not stored here; the backing disk answers
 * - `unallocated`: not stored here and nothing below; reads as zeroes
 *   `host` of these two is set where room is allocated all the same, for other parts of the cluster (extended L2 entries)
 */
export type Extent =
  | { readonly kind: 'data'; readonly offset: GuestOffset; readonly length: number; readonly host: HostOffset }
  | { readonly kind: 'zero'; readonly offset: GuestOffset; readonly length: number; readonly host?: HostOffset }
  | {
      readonly kind: 'compressed';
      readonly offset: GuestOffset;
      readonly length: number;
      readonly host: HostOffset;
      readonly hostLength: number;
    }
  | { readonly kind: 'backing'; readonly offset: GuestOffset; readonly length: number; readonly host?: HostOffset }
  | { readonly kind: 'unallocated'; readonly offset: GuestOffset; readonly length: number; readonly host?: HostOffset };

export interface Disk {
  /** Bytes. */
  readonly size: number;
  readonly readOnly: boolean;
  /** Fills `target` from `offset`. Throws `OUT_OF_RANGE` past the end. */
  read(offset: GuestOffset, target: Uint8Array): void;
  /** When it returns, `source` is in the storage and visible to reads; it is stable after `flush`. */
  write(offset: GuestOffset, source: Uint8Array): void;
  /** The range then reads as zeroes. `unmap` allows the clusters to be given back. */
  writeZeroes(offset: GuestOffset, length: number, options?: { readonly unmap?: boolean }): void;
  /** A hint that the range is not needed; only whole clusters are given back. */
  discard(offset: GuestOffset, length: number): void;
  /** The extents of a range, in order, without gaps; neighbours may be of one kind. */
  extents(offset: GuestOffset, length: number): Iterable<Extent>;
  /** Returns when everything written before is stable. */
  flush(): void;
  close(): void;
}
