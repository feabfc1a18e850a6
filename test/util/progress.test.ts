import { describe, expect, it } from 'vitest';
import { partOf } from '../../src/util/progress.js';

describe('a progress in parts', () => {
  it('is one over all of them, also of a part that has nothing to do', () => {
    const steps = [
      partOf({ done: 1, total: 2, what: 'one' }, 0, 2),
      partOf({ done: 0, total: 0, what: 'two' }, 1, 2),
      partOf({ done: 3, total: 4, what: 'two' }, 1, 2),
      partOf({ done: 4, total: 4, what: 'two' }, 1, 2),
    ];
    expect(steps.map(({ done, total }) => done / total)).toEqual([0.25, 0.5, 0.875, 1]);
    expect(steps.map(({ what }) => what)).toEqual(['one', 'two', 'two', 'two']);
  });
});
