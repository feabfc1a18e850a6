import { describe, expect, it } from 'vitest';
import { planRead, type Mapping } from '../../src/image/read-plan.js';
import { edgesOf, planWrite } from '../../src/image/write-plan.js';
import type { MappedRun } from '../../src/metadata/mapped-run.js';

const CLUSTER = 4096;

interface MappingOptions {
  readonly hasBacking?: boolean;
  readonly subclusterSize?: number;
  /** What is stored of the cluster at an offset. */
  readonly stored?: (guest: number) => { from: number; to: number } | null;
}

/** A mapping given as runs from offset 0 on. */
function mappingOf(runs: readonly MappedRun[], options: MappingOptions = {}): Mapping {
  return {
    clusterSize: CLUSTER,
    subclusterSize: options.subclusterSize ?? CLUSTER,
    hasBacking: options.hasBacking ?? false,
    fillLimit: Infinity,
    runAt(offset, limit) {
      let first = 0;
      for (const run of runs) {
        const within = offset - first;
        if (within < run.length) return cut(run, within, Math.min(limit, run.length - within));
        first += run.length;
      }
      throw new Error(`offset ${offset} is not in the mapping`);
    },
    storedPart: options.stored ?? (() => null),
  };
}

function cut(run: MappedRun, within: number, length: number): MappedRun {
  if (run.kind === 'unallocated' && run.reserved) {
    return { ...run, length, reserved: { ...run.reserved, host: run.reserved.host + within } };
  }
  return 'host' in run ? { ...run, length, host: run.host + within } : { ...run, length };
}

const data = (clusters: number, host: number, copied = true): MappedRun => ({
  kind: 'data',
  length: clusters * CLUSTER,
  host,
  copied,
});
const unallocated = (clusters: number): MappedRun => ({
  kind: 'unallocated',
  length: clusters * CLUSTER,
  reserved: null,
});
const whole = () => ({ from: 0, to: CLUSTER });

describe('the read plan', () => {
  it('cuts a range at the borders of runs, and the first and last run at the range', () => {
    const mapping = mappingOf([data(2, 0x10000), { kind: 'zero', length: CLUSTER }, unallocated(2)]);
    expect([...planRead(mapping, 100, 4 * CLUSTER)]).toEqual([
      { kind: 'data', offset: 100, length: 2 * CLUSTER - 100, host: 0x10064 },
      { kind: 'zero', offset: 2 * CLUSTER, length: CLUSTER },
      { kind: 'unallocated', offset: 3 * CLUSTER, length: CLUSTER + 100 },
    ]);
  });

  it('sends what is not here to the backing disk where there is one', () => {
    const plan = [...planRead(mappingOf([unallocated(1)], { hasBacking: true }), 0, CLUSTER)];
    expect(plan).toEqual([{ kind: 'backing', offset: 0, length: CLUSTER }]);
  });

  it('is empty for an empty range', () => {
    expect([...planRead(mappingOf([]), 5, 0)]).toEqual([]);
  });
});

describe('the write plan', () => {
  it('writes in place only where the cluster is ours alone', () => {
    const mapping = mappingOf([data(1, 0x10000), data(1, 0x20000, false), unallocated(1)], { stored: whole });
    expect(planWrite(mapping, 0, 3 * CLUSTER)).toEqual([
      { kind: 'in-place', offset: 0, length: CLUSTER, host: 0x10000 },
      { kind: 'allocate', cluster: 1, count: 2, host: 0, start: CLUSTER, end: 3 * CLUSTER },
    ]);
  });

  it('puts an allocated zero cluster to use where it lies, unless a snapshot shares it', () => {
    const zero = (copied: boolean): MappedRun => ({ kind: 'zero-allocated', length: CLUSTER, host: 0x30000, copied });
    const place = { cluster: 0, count: 1, start: 0, end: CLUSTER };
    expect(planWrite(mappingOf([zero(true)]), 10, 20)).toEqual([{ kind: 'reuse', ...place, host: 0x30000 }]);
    expect(planWrite(mappingOf([zero(false)]), 10, 20)).toEqual([{ kind: 'allocate', ...place, host: 0 }]);
  });

  it('carries over the head and the tail of new clusters only', () => {
    const mapping = mappingOf([unallocated(1), data(1, 0x10000)]);
    const steps = planWrite(mapping, 100, 2 * CLUSTER - 200);
    expect(edgesOf(steps, 100, 2 * CLUSTER - 200)).toEqual({
      head: { offset: 0, length: 100 },
      tail: { offset: 2 * CLUSTER - 100, length: 0 },
    });
  });

  it('fills only the subclusters that a write touches', () => {
    const mapping = mappingOf([unallocated(2)], { subclusterSize: 128 });
    expect(planWrite(mapping, 300, 100)).toEqual([
      { kind: 'allocate', cluster: 0, count: 1, host: 0, start: 256, end: 512 },
    ]);
  });

  it('fills what a shared cluster has stored as well when it moves', () => {
    const shared = data(1, 0x40000, false);
    const mapping = mappingOf([shared], { subclusterSize: 128, stored: () => ({ from: 128, to: 1024 }) });
    expect(planWrite(mapping, 300, 100)).toEqual([
      { kind: 'allocate', cluster: 0, count: 1, host: 0, start: 128, end: 1024 },
    ]);
  });

  it('fills a subcluster that has no data yet where its cluster lies already', () => {
    const run: MappedRun = { kind: 'unallocated', length: CLUSTER, reserved: { host: 0x50000, copied: true } };
    expect(planWrite(mappingOf([run], { subclusterSize: 128 }), 300, 100)).toEqual([
      { kind: 'reuse', cluster: 0, count: 1, host: 0x50000, start: 256, end: 512 },
    ]);
  });
});
