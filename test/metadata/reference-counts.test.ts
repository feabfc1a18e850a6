import { describe, expect, it } from 'vitest';
import { AvoidedClusters } from '../../src/metadata/avoided-clusters.js';
import { freeRun } from '../../src/metadata/free-run.js';
import { ReferenceCounts } from '../../src/metadata/reference-counts.js';
import { SeededRandom } from '../support/seeded-random.js';

describe('reference counts', () => {
  it('say what was counted, for few and for many references, far apart', () => {
    const random = new SeededRandom(11);
    const counts = new ReferenceCounts(2 ** 32 - 1);
    const model = new Map<number, number>();
    const places = [0, 1, 8191, 8192, 123_456, 2 ** 31 - 2];
    let refused = 0;
    for (let step = 0; step < 150_000; step++) {
      const cluster = random.oneIn(2) ? 8191 : random.pick(places);
      if (!counts.increment(cluster)) refused++;
      model.set(cluster, (model.get(cluster) ?? 0) + 1);
    }
    expect(refused).toBe(0);
    for (const cluster of places) expect(counts.get(cluster)).toBe(model.get(cluster));
    expect(counts.get(8191)).toBeGreaterThan(0xffff);
    expect(counts.end).toBe(2 ** 31 - 1);
    counts.set(8191, 3);
    counts.increment(8191);
    expect(counts.get(8191)).toBe(4);
  });

  it.each([1, 3, 255, 0xfffe, 0xffff, 0x10000])('stop at %i when the refcounts of the image do', (most) => {
    const counts = new ReferenceCounts(most);
    let counted = 0;
    while (counted <= most && counts.increment(5)) counted++;
    expect(counted).toBe(most);
    expect(counts.get(5)).toBe(most);
  });

  it('know where nothing was counted', () => {
    const counts = new ReferenceCounts(65535);
    counts.increment(100_000);
    expect(counts.mayCount(0, 8192)).toBe(false);
    expect(counts.mayCount(99_000, 101_000)).toBe(true);
    expect(counts.mayCount(200_000, 300_000)).toBe(false);
    counts.clear();
    expect(counts.get(100_000)).toBe(0);
    expect(counts.end).toBe(0);
  });

  it('refuse to take memory without bound for places that lie too far apart', () => {
    const counts = new ReferenceCounts(65535);
    const count = () => {
      for (let page = 0; page <= 32768; page++) counts.increment(page * 8192);
    };
    expect(count).toThrow(expect.objectContaining({ code: 'LIMIT' }));
  });
});

describe('a free run', () => {
  it('touches nothing that is counted or to be avoided', () => {
    const counts = new ReferenceCounts(65535);
    for (const cluster of [0, 1, 4, 9]) counts.increment(cluster);
    const avoid = new AvoidedClusters();
    avoid.add(6, 7, 10);
    expect(freeRun(counts, avoid, { from: 1, clusters: 2 })).toBe(2);
    expect(freeRun(counts, avoid, { from: 3, clusters: 2 })).toBe(7);
    expect(freeRun(counts, avoid, { from: 0, clusters: 3 })).toBe(10);
  });

  it('does not take the place of a long table that was lost, wherever that ends', () => {
    const avoid = new AvoidedClusters();
    avoid.add(3, 2 ** 40, 10);
    avoid.add(2 ** 30, 2 ** 30 + 1, 10);
    expect(avoid.has(2)).toBe(false);
    expect(avoid.has(3)).toBe(true);
    expect(avoid.has(2 ** 39)).toBe(true);
    expect(freeRun(new ReferenceCounts(1), avoid, { from: 0, clusters: 3 })).toBe(0);
  });
});
