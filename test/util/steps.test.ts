import { describe, expect, it } from 'vitest';
import { runToEnd, sequence, singleStep, stepsOf, type Steps } from '../../src/util/steps.js';

/** A job of `total` steps that notes what happens to it. */
function counted(total: number, log: string[], name: string): Steps {
  let done = 0;
  return stepsOf(
    () => {
      if (done === total) return null;
      log.push(`${name}${done}`);
      return { done: ++done, total, what: name };
    },
    () => log.push(`${name} given up`),
  );
}

describe('a job made of steps', () => {
  it('asks for a step that threw again, and stays ended when it has ended', () => {
    let tries = 0;
    const job = stepsOf(() => {
      tries++;
      if (tries === 2) throw new Error('not here yet');
      return tries > 3 ? null : { done: tries, total: 3, what: 'trying' };
    });
    expect(job.next().value).toEqual({ done: 1, total: 3, what: 'trying' });
    expect(() => job.next()).toThrow('not here yet');
    expect(job.next().value).toEqual({ done: 3, total: 3, what: 'trying' });
    expect(job.next()).toEqual({ done: true, value: undefined });
    expect(job.next()).toEqual({ done: true, value: undefined });
    expect(tries).toBe(4);
  });

  it('is given up once by a break, and not at all after its end', () => {
    const log: string[] = [];
    for (const _ of counted(3, log, 'a')) break;
    expect(log).toEqual(['a0', 'a given up']);
    const job = counted(1, log, 'b');
    runToEnd(job);
    job.return?.();
    expect(log).toEqual(['a0', 'a given up', 'b0']);
  });
});

describe('a sequence of jobs', () => {
  it('makes each when its turn comes, and shows one progress that rises', () => {
    const log: string[] = [];
    const make = (name: string, steps: number) => () => {
      log.push(`make ${name}`);
      return counted(steps, log, name);
    };
    const shown = [...sequence([make('a', 2), make('b', 0), make('c', 1)])].map(({ done }) => done);
    expect(log).toEqual(['make a', 'a0', 'a1', 'make b', 'make c', 'c0']);
    expect(shown).toEqual([50_000, 100_000, 300_000]);
  });

  it('gives up the job under way only', () => {
    const log: string[] = [];
    const jobs = sequence([() => counted(1, log, 'a'), () => counted(5, log, 'b'), () => counted(1, log, 'c')]);
    jobs.next();
    jobs.next();
    jobs.return?.();
    expect(log).toEqual(['a0', 'b0', 'b given up']);
    expect(jobs.next().done).toBe(true);
  });

  it('of nothing ends at once', () => {
    expect(sequence([]).next().done).toBe(true);
  });
});

it('a single step that throws is asked for again', () => {
  let fail = true;
  const job = singleStep('once', () => {
    if (fail) throw new Error('again');
  });
  expect(() => job.next()).toThrow('again');
  fail = false;
  expect(job.next().value).toEqual({ done: 1, total: 1, what: 'once' });
  expect(job.next().done).toBe(true);
});
