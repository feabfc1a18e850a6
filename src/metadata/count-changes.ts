/**
 * Count changes: by how much the refcounts of some clusters are to change, before any of them is changed. Sparse: only pages
 * of clusters that are touched take memory, 8 bytes a cluster.
 */

const PAGE_CLUSTERS = 4096;

export class CountChanges {
  readonly #pages = new Map<number, Float64Array>();

  add(cluster: number, change: number): void {
    const page = Math.floor(cluster / PAGE_CLUSTERS);
    let changes = this.#pages.get(page);
    if (changes === undefined) {
      changes = new Float64Array(PAGE_CLUSTERS);
      this.#pages.set(page, changes);
    }
    changes[cluster - page * PAGE_CLUSTERS]! += change;
  }

  /** Adds `change` for each cluster that `length` bytes from `host` on touch. */
  addRange(host: number, length: number, options: { readonly change: number; readonly clusterSize: number }): void {
    const end = host + length;
    for (let cluster = Math.floor(host / options.clusterSize); cluster * options.clusterSize < end; cluster++) {
      this.add(cluster, options.change);
    }
  }

  /** Whether no count changes. */
  get isEmpty(): boolean {
    return [...this.#pages.values()].every((changes) => changes.every((change) => change === 0));
  }

  get(cluster: number): number {
    const page = Math.floor(cluster / PAGE_CLUSTERS);
    return this.#pages.get(page)?.[cluster - page * PAGE_CLUSTERS] ?? 0;
  }

  /** Calls `visit` for each cluster whose count changes, in the order of the file. */
  forEach(visit: (cluster: number, change: number) => void): void {
    for (const page of [...this.#pages.keys()].sort((a, b) => a - b)) {
      const changes = this.#pages.get(page)!;
      for (let index = 0; index < PAGE_CLUSTERS; index++) {
        if (changes[index] !== 0) visit(page * PAGE_CLUSTERS + index, changes[index]!);
      }
    }
  }
}
