/**
 * Free run: room for a new table, found in references counted rather than in refcounts, which may be what is damaged.
 */
import type { AvoidedClusters } from './avoided-clusters.js';
import type { ReferenceCounts } from './reference-counts.js';

export interface RunWanted {
  /** The first cluster to look at. */
  readonly from: number;
  readonly clusters: number;
}

/** The first of `clusters` contiguous ones that nothing names; behind everything at the latest. Not yet counted. */
export function freeRun(counts: ReferenceCounts, avoid: AvoidedClusters, wanted: RunWanted): number {
  let first = wanted.from;
  for (let cluster = first; cluster < first + wanted.clusters; cluster++) {
    if (counts.get(cluster) > 0 || avoid.has(cluster)) first = cluster + 1;
  }
  return first;
}
