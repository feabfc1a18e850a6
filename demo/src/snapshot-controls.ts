/** What the snapshots' panel and the offer ask for, done by the session; what goes wrong is shown. */
import type { MachineSnapshot } from 'qcow2-wasm/v86';
import { showSnapshotFailure } from './notice.js';
import type { Session } from './session.js';
import type { SnapshotActions } from './snapshot-panel.js';

export function snapshotActions(session: () => Session): SnapshotActions {
  const attempt = (task: 'save' | 'load' | 'delete', done: Promise<unknown>): Promise<boolean> =>
    done.then(
      () => true,
      (error: unknown) => {
        showSnapshotFailure(task, error);
        return false;
      },
    );
  return {
    save: (name) => attempt('save', session().saveSnapshot(name)),
    restore: ({ id }) => attempt('load', session().loadSnapshot({ id })),
    resume: ({ id }) => attempt('load', session().loadSnapshot({ id }, 'Resumed')),
    delete: ({ id }) => attempt('delete', session().deleteSnapshot({ id })),
    checkpointEvery: (seconds) => session().checkpointEvery(seconds),
  };
}

/** A snapshot as `window.demo` gives it: a plain object that survives JSON. */
export interface DemoSnapshot {
  readonly id: string;
  readonly name: string;
  /** ISO 8601. */
  readonly date: string;
  /** Of the file that are its own: what deleting it would free. */
  readonly bytes: number;
  /** Of the machine's state; 0 for a snapshot of the disk alone. */
  readonly stateBytes: number;
  readonly runningSeconds: number;
  readonly loadable: boolean;
  /** Why it is not, or null. */
  readonly reason: string | null;
}

export function plainSnapshot(snapshot: MachineSnapshot): DemoSnapshot {
  const { id, name, date, ownBytes, stateBytes, runningSeconds, loadable } = snapshot;
  return {
    id,
    name,
    date: date.toISOString(),
    bytes: ownBytes,
    stateBytes,
    runningSeconds,
    loadable: loadable === null,
    reason: loadable,
  };
}
