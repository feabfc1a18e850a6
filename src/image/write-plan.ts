/**
 * Write plan: a guest range and the tables in, steps out. It moves no data and changes nothing; executing the plan is
 * `write.ts`.
 *
 * Clusters that are ours alone are written in place. Others are *filled*: from `start` to `end`, in whole subclusters, with
 * what is written and, around it, what has to be carried over.
 */
import type { GuestOffset, HostOffset } from '../disk.js';
import type { MappedRun } from '../metadata/mapped-run.js';
import { alignDown, alignUp } from '../util/integers.js';
import type { Mapping } from './read-plan.js';

export type WriteStep =
  | { readonly kind: 'in-place'; readonly offset: GuestOffset; readonly length: number; readonly host: HostOffset }
  | FillStep;

export interface FillStep {
  /** `reuse`: the clusters are allocated already, at `host`, and what is filled reads as something else so far. */
  readonly kind: 'reuse' | 'allocate';
  /** The guest clusters that are touched. */
  readonly cluster: number;
  readonly count: number;
  /** Where the first of the clusters lies; 0 as long as they have no place. */
  readonly host: HostOffset;
  readonly start: GuestOffset;
  readonly end: GuestOffset;
}

export function planWrite(mapping: Mapping, offset: GuestOffset, length: number): WriteStep[] {
  const end = offset + length;
  const steps: WriteStep[] = [];
  let at = offset;
  while (at < end) {
    const run = mapping.runAt(at, end - at);
    const place = ownPlace(run);
    if (run.kind === 'data' && place !== null) {
      steps.push({ kind: 'in-place', offset: at, length: run.length, host: place });
      at += run.length;
    } else if (place !== null) {
      steps.push(reuse(mapping, at, at + run.length, place));
      at += run.length;
    } else {
      // Whether a cluster is ours is the same for all its bytes, so the step may go on to the end of the last one.
      const stop = Math.min(end, alignUp(at + run.length, mapping.clusterSize));
      addAllocation(steps, allocation(mapping, at, stop));
      at = stop;
    }
  }
  return steps;
}

/** Where a run lies, if it may be written there. */
function ownPlace(run: MappedRun): HostOffset | null {
  if (run.kind === 'data' || run.kind === 'zero-allocated') return run.copied ? run.host : null;
  if (run.kind === 'unallocated' && run.reserved?.copied) return run.reserved.host;
  return null;
}

function reuse(mapping: Mapping, from: GuestOffset, to: GuestOffset, host: HostOffset): FillStep {
  const { clusterSize, subclusterSize } = mapping;
  const cluster = Math.floor(from / clusterSize);
  return {
    kind: 'reuse',
    cluster,
    count: Math.ceil(to / clusterSize) - cluster,
    host: host - (from - cluster * clusterSize),
    start: alignDown(from, subclusterSize),
    end: fillEnd(mapping, to),
  };
}

function allocation(mapping: Mapping, from: GuestOffset, to: GuestOffset): FillStep {
  const { clusterSize, subclusterSize } = mapping;
  const cluster = Math.floor(from / clusterSize);
  const last = Math.ceil(to / clusterSize) - 1;
  const head = mapping.storedPart(cluster * clusterSize);
  const tail = mapping.storedPart(last * clusterSize);
  const start = alignDown(from, subclusterSize);
  const end = fillEnd(mapping, to);
  return {
    kind: 'allocate',
    cluster,
    count: last + 1 - cluster,
    host: 0,
    start: head ? Math.min(start, cluster * clusterSize + head.from) : start,
    end: tail ? Math.max(end, Math.min(mapping.fillLimit, last * clusterSize + tail.to)) : end,
  };
}

/** Where a fill that must reach `to` ends. What is written itself may lie past the limit: a disk that grows is zeroed there. */
function fillEnd(mapping: Mapping, to: GuestOffset): GuestOffset {
  return Math.max(to, Math.min(mapping.fillLimit, alignUp(to, mapping.subclusterSize)));
}

/** Neighbours are allocated together, so that they come to lie together. */
function addAllocation(steps: WriteStep[], step: FillStep): void {
  const last = steps.at(-1);
  if (last?.kind !== 'allocate') {
    steps.push(step);
    return;
  }
  steps[steps.length - 1] = { ...last, count: last.count + step.count, end: step.end };
}

/** A part of what the steps fill that the write does not cover: it is carried over (copy-on-write), in guest bytes. */
export interface Edge {
  readonly offset: GuestOffset;
  readonly length: number;
}

/** The head and the tail of what the steps fill around the range written; empty ones have length 0. */
export function edgesOf(
  steps: readonly WriteStep[],
  offset: GuestOffset,
  length: number,
): { readonly head: Edge; readonly tail: Edge } {
  const end = offset + length;
  const first = steps[0];
  const last = steps.at(-1);
  const start = first && first.kind !== 'in-place' ? first.start : offset;
  const stop = last && last.kind !== 'in-place' ? last.end : end;
  return { head: { offset: start, length: offset - start }, tail: { offset: end, length: stop - end } };
}
