/**
 * The internal snapshots of a disk in OPFS, as the page has them: each call is one request to the disk's worker.
 */
import type {
  NewSnapshot,
  SnapshotInfo,
  SnapshotUsage,
  VmStateOptions,
  VmStateWritten,
} from '../operations/snapshots/snapshot-info.js';
import type { WorkerClient } from './client.js';
import type { JobOptions } from './job-options.js';
import type { Bytes } from './protocol.js';
import type { RemoteSnapshots } from './remote-disk.js';
import { handOver } from './transferable.js';

/** Rejects with `NOT_FOUND` for an id that there is none of, and as the engine throws. */
export class OpfsSnapshots implements RemoteSnapshots {
  readonly #client: WorkerClient;
  readonly #wentTo: (snapshot: SnapshotInfo) => void;

  /** @param wentTo told of each snapshot that the disk has gone to, before its caller is. */
  constructor(client: WorkerClient, wentTo: (snapshot: SnapshotInfo) => void) {
    this.#client = client;
    this.#wentTo = wentTo;
  }

  list(): Promise<SnapshotUsage[]> {
    return this.#client.call({ kind: 'listSnapshots' });
  }

  create(snapshot: NewSnapshot): Promise<SnapshotInfo> {
    return this.#client.call({ kind: 'createSnapshot', snapshot });
  }

  async goto(id: string): Promise<SnapshotInfo> {
    const snapshot = await this.#client.call({ kind: 'gotoSnapshot', id });
    this.#wentTo(snapshot);
    return snapshot;
  }

  /**
   * Requests on the disk itself, writes too, are served meanwhile, also while this waits for an export; those on its snapshots wait. Ended by its
   * signal it rejects with `ABORTED`, and the snapshot is there as before.
   */
  async delete(id: string, options: JobOptions = {}): Promise<void> {
    await this.#client.call({ kind: 'deleteSnapshot', id }, options);
  }

  readVmState(id: string, offset: number, length: number): Promise<Bytes> {
    return this.#client.call({ kind: 'readVmState', id, offset, length });
  }

  async writeVmState(offset: number, source: Bytes, options: VmStateOptions = {}): Promise<VmStateWritten> {
    const transfer = handOver(source, 'writeVmState');
    return this.#client.call({ kind: 'writeVmState', offset, bytes: source, options }, { transfer });
  }

  async discardVmState(): Promise<void> {
    await this.#client.call({ kind: 'discardVmState' });
  }
}
