import { describe, expect, it } from 'vitest';
import { NotResident } from '../../src/storage/not-resident.js';
import { stepsOf } from '../../src/util/steps.js';
import { carryOut } from '../../src/worker/job.js';

describe('a job that waits for what its steps find missing', () => {
  it('counts how often each step has faulted, as one read would', async () => {
    const rounds: number[] = [];
    const faults = [3, 0, 2];
    let step = 0;
    const job = stepsOf(() => {
      if (step === faults.length) return null;
      if (faults[step]!-- > 0) {
        throw new NotResident('not here', (_signal, round = 0) => {
          rounds.push(round);
          return Promise.resolve();
        });
      }
      return { done: ++step, total: faults.length, what: 'a job' };
    });
    await carryOut(job, () => Promise.resolve());
    expect(rounds).toEqual([1, 2, 3, 1, 2]);
  });
});
