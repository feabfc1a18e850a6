/** The snapshots of an image, with a note of every call, and calls that fail or wait where a test says. */
import type { RemoteSnapshots } from '../../src/worker/remote-disk.js';

export type SnapshotCall = keyof RemoteSnapshots;

export class WatchedSnapshots implements RemoteSnapshots {
  /** The calls that change something, with the name or id, in the order in which they were answered. */
  readonly changes: string[] = [];
  writtenBytes = 0;
  /** The next call of this kind but so many fails; once. */
  failing: { call: SnapshotCall; after: number } | null = null;
  /** The next call of this kind calls this first. */
  before: { call: SnapshotCall; action: () => Promise<void> } | null = null;

  constructor(readonly inner: RemoteSnapshots) {}

  list: RemoteSnapshots['list'] = () => this.#watch('list', () => this.inner.list());

  create: RemoteSnapshots['create'] = (snapshot) => {
    return this.#watch('create', () => this.inner.create(snapshot), snapshot.name);
  };

  goto: RemoteSnapshots['goto'] = (id) => this.#watch('goto', () => this.inner.goto(id), id);

  delete: RemoteSnapshots['delete'] = (id) => this.#watch('delete', () => this.inner.delete(id), id);

  readVmState: RemoteSnapshots['readVmState'] = (id, offset, length) => {
    return this.#watch('readVmState', () => this.inner.readVmState(id, offset, length));
  };

  writeVmState: RemoteSnapshots['writeVmState'] = async (offset, source, options) => {
    const written = await this.#watch('writeVmState', () => this.inner.writeVmState(offset, source, options));
    this.writtenBytes += written.stored;
    return written;
  };

  discardVmState: RemoteSnapshots['discardVmState'] = () => {
    return this.#watch('discardVmState', () => this.inner.discardVmState(), '');
  };

  async #watch<T>(call: SnapshotCall, run: () => Promise<T>, note?: string): Promise<T> {
    const { failing, before } = this;
    if (before?.call === call) {
      this.before = null;
      await before.action();
    }
    if (failing?.call === call && failing.after-- === 0) {
      this.failing = null;
      throw new Error(`injected failure of ${call}`);
    }
    const result = await run();
    if (note !== undefined) this.changes.push(`${call} ${note}`.trim());
    return result;
  }
}
