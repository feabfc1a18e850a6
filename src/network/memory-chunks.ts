/**
 * Chunks in memory: those on their way into the cache file, and those that can't be kept in one. The ones used last stay, up to a number of
 * bytes; those that are held stay anyway.
 *
 * Invariant: `settle` gets to an end. An operation that faults runs again from its start, so all chunks that it reads must fit in at the
 * same time. One that is wanted again soon after it had to go says that they do not, and there is room for twice as many from then on.
 */
export class MemoryChunks {
  #capacity: number;
  /** By index, the one used last at the end. */
  readonly #chunks = new Map<number, Uint8Array>();
  readonly #held = new Set<number>();
  /** How many had to go in all when this one had. */
  readonly #wentAt = new Map<number, number>();
  #gone = 0;

  /** @param capacity in chunks. */
  constructor(capacity: number) {
    this.#capacity = Math.max(1, capacity);
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

  /** Takes a chunk in, and holds it until `release`. */
  hold(index: number, bytes: Uint8Array): void {
    const wentAt = this.#wentAt.get(index);
    if (wentAt !== undefined && this.#gone - wentAt <= 2 * this.#capacity) this.#capacity *= 2;
    this.#wentAt.delete(index);
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
      this.#wentAt.set(oldest, ++this.#gone);
    }
  }

  /** Forgets a chunk, unless it is held. */
  drop(index: number): void {
    if (!this.#held.has(index)) this.#chunks.delete(index);
  }

  /** Makes room for at least so many chunks: all that one read wants must fit in. */
  demand(count: number): void {
    this.#capacity = Math.max(this.#capacity, count);
  }

  clear(): void {
    this.#chunks.clear();
    this.#held.clear();
  }
}
