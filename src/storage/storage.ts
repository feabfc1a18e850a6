/**
 * Storage: what a host gives. A flat run of bytes with no short reads, zeroes past the end, and one barrier: `flush`.
 *
 * Between two flushes writes may reach the medium in any order, or torn at 512 bytes, or not at all. The rules that
 * make an image survive this are in `metadata/write-order.ts`.
 */
import type { AccessPurpose } from './access-purpose.js';

export interface Storage {
  /** Bytes. Grows when a write reaches past it. */
  readonly size: number;
  readonly readOnly: boolean;
  /** Fills all of `target`; what lies past the end is zeroes. May throw `NotResident`. */
  read(offset: number, target: Uint8Array): void;
  /** Writes all of `source`, growing the storage as needed; a gap reads as zeroes. */
  write(offset: number, source: Uint8Array): void;
  truncate(size: number): void;
  /** The only barrier: when it returns, all that was written before is stable. */
  flush(): void;
  /**
   * A hint that nobody needs `length` bytes from `offset` any more: until they are written again they read as zeroes or as
   * they were. Left out where the host can't give their place back.
   */
  punchHole?(offset: number, length: number): void;
  /** Told what the accesses that follow are for. Only a storage that injects faults listens. */
  announce?(purpose: AccessPurpose): void;
  /** Somebody else may have had the file: what is remembered of it, its size, is asked for again. */
  refresh?(): void;
  close(): void;
}
