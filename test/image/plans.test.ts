import { describe, expect, it } from 'vitest';
import { planRead, type Mapping } from '../../src/image/read-plan.js';
import { edgesOf, planWrite } from '../../src/image/write-plan.js';
import type { MappedRun } from '../../src/metadata/l2-tables.js';

const CLUSTER = 4096;

/** A mapping given as runs from cluster 0 on. */
function mappingOf(runs: readonly MappedRun[], hasBacking = false): Mapping {
  return {
    clusterSize: CLUSTER,
    hasBacking,
    run(cluster, limit) {
      let first = 0;
      for (const run of runs) {
        const within = cluster - first;
        if (within < run.count) {
          const count = Math.min(limit, run.count - within);
          if (run.kind === 'compressed') return run;
          return 'host' in run ? { ...run, count, host: run.host + within * CLUSTER } : { ...run, count };
        }
        first += run.count;
      }
      throw new Error(`cluster ${cluster} is not in the mapping`);
    },
  };
}

const data = (count: number, host: number, copied = true): MappedRun => ({ kind: 'data', count, host, copied });

describe('the read plan', () => {
  it('cuts a range at the borders of runs, and the first and last run at the range', () => {
    const mapping = mappingOf([data(2, 0x10000), { kind: 'zero', count: 1 }, { kind: 'unallocated', count: 2 }]);
    expect([...planRead(mapping, 100, 4 * CLUSTER)]).toEqual([
      { kind: 'data', offset: 100, length: 2 * CLUSTER - 100, host: 0x10064 },
      { kind: 'zero', offset: 2 * CLUSTER, length: CLUSTER },
      { kind: 'unallocated', offset: 3 * CLUSTER, length: CLUSTER + 100 },
    ]);
  });

  it('sends what is not here to the backing disk where there is one', () => {
    const plan = [...planRead(mappingOf([{ kind: 'unallocated', count: 1 }], true), 0, CLUSTER)];
    expect(plan).toEqual([{ kind: 'backing', offset: 0, length: CLUSTER }]);
  });

  it('is empty for an empty range', () => {
    expect([...planRead(mappingOf([]), 5, 0)]).toEqual([]);
  });
});

describe('the write plan', () => {
  it('writes in place only where the cluster is ours alone', () => {
    const mapping = mappingOf([data(1, 0x10000), data(1, 0x20000, false), { kind: 'unallocated', count: 1 }]);
    expect(planWrite(mapping, 0, 3 * CLUSTER)).toEqual([
      { kind: 'in-place', offset: 0, length: CLUSTER, host: 0x10000 },
      { kind: 'allocate', cluster: 1, count: 2 },
    ]);
  });

  it('puts an allocated zero cluster to use where it lies, unless a snapshot shares it', () => {
    const zero = (copied: boolean): MappedRun => ({ kind: 'zero-allocated', count: 1, host: 0x30000, copied });
    expect(planWrite(mappingOf([zero(true)]), 10, 20)).toEqual([
      { kind: 'reuse', cluster: 0, count: 1, host: 0x30000 },
    ]);
    expect(planWrite(mappingOf([zero(false)]), 10, 20)).toEqual([{ kind: 'allocate', cluster: 0, count: 1 }]);
  });

  it('carries over the head and the tail of new clusters only', () => {
    const mapping = mappingOf([{ kind: 'unallocated', count: 1 }, data(1, 0x10000)]);
    const steps = planWrite(mapping, 100, 2 * CLUSTER - 200);
    expect(edgesOf(steps, 100, 2 * CLUSTER - 200, CLUSTER)).toEqual({
      head: { offset: 0, length: 100 },
      tail: { offset: 2 * CLUSTER - 100, length: 0 },
    });
  });
});
