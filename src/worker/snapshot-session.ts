/**
 * The snapshots of the open disk in the worker. As for the disk itself: nothing else may use it while a request is under way,
 * but for what the server serves between the steps of a delete.
 */
import { Qcow2Error } from '../errors.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import type {
  NewSnapshot,
  SnapshotInfo,
  SnapshotUsage,
  VmStateOptions,
  VmStateWritten,
} from '../operations/snapshots/snapshot-info.js';
import { SnapshotService } from '../operations/snapshots/snapshot-service.js';
import { settle } from '../storage/not-resident.js';
import type { BufferPool } from './buffer-pool.js';
import { carryOut, type BetweenSteps } from './job.js';
import type { Bytes } from './protocol.js';

/** What may be asked for at once. Bytes. */
const LONGEST_READ = 256 * 1024 * 1024;

export class SnapshotSession {
  readonly #service: SnapshotService;
  readonly #buffers: BufferPool;

  constructor(image: Qcow2Image, buffers: BufferPool) {
    this.#service = new SnapshotService(image);
    this.#buffers = buffers;
  }

  list(): Promise<SnapshotUsage[]> {
    return settle(() => this.#service.list());
  }

  create(snapshot: NewSnapshot): Promise<SnapshotInfo> {
    return settle(() => this.#service.create(snapshot));
  }

  goto(id: string): Promise<SnapshotInfo> {
    return settle(() => this.#service.goto(id));
  }

  /** @param between while it waits, the disk may be used, and its snapshots may not. */
  async delete(id: string, between: BetweenSteps): Promise<void> {
    await carryOut(await settle(() => this.#service.delete(id)), between);
  }

  async readVmState(id: string, offset: number, length: number): Promise<Bytes> {
    // Looked at before an array of that length is made.
    if (!isCount(offset) || !isCount(length) || length > LONGEST_READ) {
      const limits = `from 0 on, ${LONGEST_READ} bytes at once`;
      const read = `a read of ${length} bytes of VM state at ${offset}`;
      throw new Qcow2Error('OUT_OF_RANGE', `${read}; it can be read ${limits}`);
    }
    const target = this.#buffers.take(length);
    await settle(() => this.#service.readVmState(id, offset, target));
    return target;
  }

  async writeVmState(offset: number, bytes: Bytes, options: VmStateOptions): Promise<VmStateWritten> {
    const written = await settle(() => this.#service.writeVmState(offset, bytes, options));
    this.#buffers.give(bytes);
    return written;
  }

  discardVmState(): Promise<void> {
    return settle(() => this.#service.discardVmState());
  }
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
