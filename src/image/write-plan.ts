/**
 * Write plan: a guest range and the tables in, steps out. It moves no data and changes nothing; executing the plan is
 * `write.ts`.
 */
import type { GuestOffset, HostOffset } from '../disk.js';
import type { Mapping } from './read-plan.js';

export type WriteStep =
  /** The clusters are ours alone: write in place. */
  | { readonly kind: 'in-place'; readonly offset: GuestOffset; readonly length: number; readonly host: HostOffset }
  /** Whole clusters to be filled and linked: at `host`, which they have already and which reads as zeroes, ... */
  | { readonly kind: 'reuse'; readonly cluster: number; readonly count: number; readonly host: HostOffset }
  /** ... or at new ones. */
  | { readonly kind: 'allocate'; readonly cluster: number; readonly count: number };

export function planWrite(mapping: Mapping, offset: GuestOffset, length: number): WriteStep[] {
  const { clusterSize } = mapping;
  const end = offset + length;
  const steps: WriteStep[] = [];
  let at = offset;
  while (at < end) {
    const cluster = Math.floor(at / clusterSize);
    const run = mapping.run(cluster, Math.ceil(end / clusterSize) - cluster);
    const stop = Math.min(end, (cluster + run.count) * clusterSize);
    if (run.kind === 'data' && run.copied) {
      const host = run.host + at - cluster * clusterSize;
      steps.push({ kind: 'in-place', offset: at, length: stop - at, host });
    } else if (run.kind === 'zero-allocated' && run.copied) {
      steps.push({ kind: 'reuse', cluster, count: run.count, host: run.host });
    } else {
      addAllocation(steps, cluster, run.count);
    }
    at = stop;
  }
  return steps;
}

/** Neighbours are allocated together, so that they come to lie together. */
function addAllocation(steps: WriteStep[], cluster: number, count: number): void {
  const last = steps.at(-1);
  if (last?.kind === 'allocate') steps[steps.length - 1] = { ...last, count: last.count + count };
  else steps.push({ kind: 'allocate', cluster, count });
}

/** The parts of clusters that a write of a range does not cover but must carry over (copy-on-write), in guest bytes. */
export interface Edge {
  readonly offset: GuestOffset;
  readonly length: number;
}

/** The head and the tail of what the steps fill around the range written; empty ones have length 0. */
export function edgesOf(
  steps: readonly WriteStep[],
  offset: GuestOffset,
  length: number,
  clusterSize: number,
): { readonly head: Edge; readonly tail: Edge } {
  const end = offset + length;
  const first = steps[0];
  const last = steps.at(-1);
  const head = first && first.kind !== 'in-place' ? offset % clusterSize : 0;
  const tail = last && last.kind !== 'in-place' ? Math.ceil(end / clusterSize) * clusterSize - end : 0;
  return { head: { offset: offset - head, length: head }, tail: { offset: end, length: tail } };
}
