/**
 * Chunks in memory: those on their way into the cache file, and those that can't be kept in one. The ones used last stay, up to a number of
 * bytes; those that are held stay anyway.
 *
 * Invariant: `settle` gets to an end. An operation that faults runs again from its start, so all chunks that it reads must fit in at the
 * same time. It faults once for each chunk, unless some that it has read had to go meanwhile: one that faults more often than there is
 * room for chunks makes room for twice as many, up to a bound if there is one. What many operations read makes no room, however much.
 */
import { Qcow2Error } from '../errors.js';

export interface MemoryRoom {
  /** Chunks. */
  readonly capacity: number;
  /** What the capacity may grow to; `Infinity` for as much as an operation needs. */
  readonly most: number;
}

export class MemoryChunks {
  readonly #most: number;
  #capacity: number;
  /** By index, the one used last at the end. */
  readonly #chunks = new Map<number, Uint8Array>();
  readonly #held = new Set<number>();

  constructor({ capacity, most }: MemoryRoom) {
    this.#most = Math.max(1, most);
    this.#capacity = Math.min(Math.max(1, capacity), this.#most);
  }

  has(index: number): boolean {
    return this.#chunks.has(index);
  }

  get(index: number): Uint8Array | undefined {
    const chunk = this.#chunks.get(index);
    if (chunk === undefined) return undefined;
    this.#chunks.delete(index);
    this.#chunks.set(index, chunk);
    return chunk;
  }

  /** All of them, by index. */
  entries(): [number, Uint8Array][] {
    return [...this.#chunks];
  }

  /** Takes a chunk in, and holds it until `release`. */
  hold(index: number, bytes: Uint8Array): void {
    this.#chunks.set(index, bytes);
    this.#held.add(index);
  }

  /** The chunk may go when others need its room. */
  release(index: number): void {
    this.#held.delete(index);
    for (const oldest of this.#chunks.keys()) {
      if (this.#chunks.size <= this.#capacity) break;
      if (this.#held.has(oldest)) continue;
      this.#chunks.delete(oldest);
    }
  }

  /** Forgets a chunk, unless it is held. */
  drop(index: number): void {
    if (!this.#held.has(index)) this.#chunks.delete(index);
  }

  /**
   * An operation faults the `round`th time, now by a read of `count` chunks.
   * @throws Qcow2Error `LIMIT` where it reads more than may ever be here.
   */
  demand(count: number, round: number): void {
    const most = this.#most;
    if (count > most || round > 2 * most) {
      throw new Qcow2Error(
        'LIMIT',
        `one operation reads more of the base image than ${most} chunks, all that memory may hold`,
      );
    }
    const wanted = round > this.#capacity ? 2 * this.#capacity : count;
    this.#capacity = Math.min(most, Math.max(this.#capacity, wanted, count));
  }

  clear(): void {
    this.#chunks.clear();
    this.#held.clear();
  }
}
