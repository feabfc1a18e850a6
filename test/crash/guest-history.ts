/**
 * What a guest did and what it was promised: the disk at each completed flush, and the operations after it.
 *
 * After a crash every byte must hold its value at the last completed flush, or a value that a later operation gave it.
 */
import { expectSameBytes, type Range } from '../support/model-disk.js';

interface Change extends Range {
  /** The number of storage events before the operation began. */
  readonly begun: number;
  /** What the range holds after the operation. */
  readonly bytes: Uint8Array;
}

interface Promised {
  /** The number of storage events when the flush had returned. */
  readonly at: number;
  readonly bytes: Uint8Array;
}

export class GuestHistory {
  readonly #changes: Change[] = [];
  readonly #promises: Promised[];

  /** @param start what the disk holds, stable, before the first event. */
  constructor(start: Uint8Array) {
    this.#promises = [{ at: 0, bytes: start.slice() }];
  }

  /** Notes an operation that began when the storage had seen `begun` events and left `disk` behind. */
  changed(begun: number, range: Range, disk: Uint8Array): void {
    const bytes = disk.slice(range.offset, range.offset + range.length);
    this.#changes.push({ begun, ...range, bytes });
  }

  /** Notes that a flush has returned when the storage had seen `at` events. */
  flushed(at: number, disk: Uint8Array): void {
    this.#promises.push({ at, bytes: disk.slice() });
  }

  /** Throws when `disk`, read after a crash at `crash` events, breaks a promise. A disk may have grown since. */
  expectKept(crash: number, disk: Uint8Array): void {
    const promised = this.#promises.findLast(({ at }) => at <= crash);
    if (!promised) throw new Error('the history has no beginning');
    const later = this.#changes.filter(({ begun }) => begun >= promised.at && begun < crash);
    if (disk.length < promised.bytes.length) {
      throw new Error(`the disk has ${disk.length} bytes; ${promised.bytes.length} were flushed`);
    }
    const allowed = new Uint8Array(disk.length);
    allowed.set(promised.bytes);
    for (const change of later) {
      change.bytes.forEach((value, index) => {
        if (disk[change.offset + index] === value) allowed[change.offset + index] = value;
      });
    }
    expectSameBytes(disk, allowed, 'the disk against its last completed flush and what was written later');
  }
}
