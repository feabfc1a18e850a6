/**
 * The turns of what is done with one disk. What is asked for may have to wait, for minutes behind an export, and another disk may be open
 * by then. So whatever is done with the disk that is there is bound to it at the moment of asking, and refused in its turn if that disk
 * is another one then, or gone: nothing is ever done to a disk for which it was not meant.
 */
import { Qcow2Error } from 'qcow2-wasm/opfs';
import type { DiskOfTab } from './disk-of-tab.js';
import type { Turns } from './turns.js';

/** Runs a job in its turn, on the disk that it was bound to. Rejects with `IN_USE`, with nothing done, if it is not there any more. */
export type BoundTurns = <T>(job: () => Promise<T>) => Promise<T>;

export class DiskTurns {
  constructor(
    private readonly turns: Turns,
    private readonly tab: Pick<DiskOfTab, 'identity'>,
  ) {}

  /** For what opens a disk, or otherwise says itself which one it is done to. */
  ofAny<T>(job: () => Promise<T>): Promise<T> {
    return this.turns.take(job);
  }

  /** For what is done with the disk that is there now. */
  ofThis<T>(job: () => Promise<T>): Promise<T> {
    return this.bind()(job);
  }

  /** The same in two steps, for what waits for something else before it takes its turn. */
  bind(): BoundTurns {
    const { identity } = this.tab;
    return (job) =>
      this.turns.take(() => {
        if (this.tab.identity !== identity) {
          throw new Qcow2Error(
            'IN_USE',
            'another disk has been started meanwhile, or this one anew; nothing was changed',
          );
        }
        return job();
      });
  }
}
