/**
 * Avoided clusters: places that damaged entries name and nothing counts. A repair must put no table there: were the entry
 * believed one day, or the file grown over it, the table would be taken for data, or the data for a table.
 *
 * Memory is bounded: what lies so far past the end of the file that no repair gets there is not remembered, and long ranges
 * take as little as short ones.
 */

/** A repair makes the file longer by far fewer clusters. */
const REACH = 2 ** 20;
/** Longer ones are kept as a range: there are few, whole tables. */
const MOST_SINGLE = 4;

export class AvoidedClusters {
  readonly #single = new Set<number>();
  readonly #ranges: { readonly first: number; readonly end: number }[] = [];

  /** Avoids clusters `first .. end` of a file with `fileClusters`. */
  add(first: number, end: number, fileClusters: number): void {
    if (first >= fileClusters + REACH) return;
    if (end - first > MOST_SINGLE) this.#ranges.push({ first, end });
    else for (let cluster = first; cluster < end; cluster++) this.#single.add(cluster);
  }

  has(cluster: number): boolean {
    if (this.#single.has(cluster)) return true;
    return this.#ranges.some((range) => range.first <= cluster && cluster < range.end);
  }
}
