/** A set of bytes by their offsets, as ranges that do not touch each other. Cheap where what is added goes on from what was added before. */
export class ByteRanges {
  /** Starts and ends in turn, ascending. */
  readonly #bounds: number[] = [];

  /** Adds `start` up to `end`, which is not in it. */
  add(start: number, end: number): void {
    if (start >= end) return;
    const bounds = this.#bounds;
    // Ranges that touch the new one become one with it.
    const from = this.#countBelow(start);
    const to = this.#countBelow(end + 1);
    const isJoinedBelow = from % 2 === 1;
    const isJoinedAbove = to % 2 === 1;
    bounds.splice(from, to - from, ...(isJoinedBelow ? [] : [start]), ...(isJoinedAbove ? [] : [end]));
  }

  /** Whether any byte from `start` up to `end` is in it. */
  touches(start: number, end: number): boolean {
    const after = this.#countBelow(start + 1);
    // An odd number of bounds at or before it: it lies in a range.
    return start < end && (after % 2 === 1 || (this.#bounds[after] ?? Infinity) < end);
  }

  /** Bounds below `offset`. */
  #countBelow(offset: number): number {
    let [low, high] = [0, this.#bounds.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#bounds[middle]! < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
