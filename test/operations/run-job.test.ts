import { describe, expect, it } from 'vitest';
import { checkImage, createImage, MemoryStorage, NotResident, runJob, type Progress } from '../../src/index.js';

/** A job of `count` steps that says when it is given up. */
function counting(count: number) {
  const job = {
    made: 0,
    givenUp: false,
    next(): IteratorResult<Progress, string> {
      if (job.made === count) return { done: true, value: 'done' };
      job.made++;
      return { done: false, value: { done: job.made, total: count, what: 'counting' } };
    },
    return(): IteratorResult<Progress, string> {
      job.givenUp = true;
      return { done: true, value: '' };
    },
  };
  return job;
}

describe('running a job', () => {
  it('makes every step, tells of each, and gives the result', async () => {
    const seen: number[] = [];
    expect(await runJob(counting(3), { onProgress: ({ done }) => seen.push(done) })).toBe('done');
    expect(seen).toEqual([1, 2, 3]);
  });

  it('lets others have a turn between two steps', async () => {
    const job = counting(5);
    const running = runJob(job);
    await new Promise((resolve) => setTimeout(resolve, 0));
    expect(job.made).toBeLessThan(5);
    await running;
  });

  it('ends between two steps when its signal says so, and gives the job up', async () => {
    const controller = new AbortController();
    const job = counting(100);
    const running = runJob(job, {
      signal: controller.signal,
      onProgress: ({ done }) => done === 4 && controller.abort(),
    });
    await expect(running).rejects.toMatchObject({ code: 'ABORTED' });
    expect(job.made).toBe(4);
    expect(job.givenUp).toBe(true);
  });

  it('loads what is not resident and makes the step again', async () => {
    const job = counting(2);
    let here = false;
    const next = job.next;
    job.next = () => {
      if (!here) throw new NotResident('not here', async () => void (here = true));
      return next();
    };
    expect(await runJob(job)).toBe('done');
  });

  it('gives the result of a check', async () => {
    const storage = new MemoryStorage();
    createImage(storage, { size: 1 << 20 });
    expect(await runJob(checkImage(storage))).toMatchObject({ corruptions: 0, leaks: 0 });
  });
});
