/**
 * Random histories of an image with snapshots: a guest that writes, snapshots with VM state that come, are gone to and go.
 * A model keeps what the disk and each snapshot must hold.
 */
import {
  createSnapshot,
  deleteSnapshot,
  gotoSnapshot,
  listSnapshots,
  openSnapshot,
  readVmState,
  resizeImage,
  runToEnd,
  writeVmState,
  type Qcow2Image,
  type SnapshotKey,
} from '../../src/index.js';
import { act, randomRange, readWhole, type DiskAction } from './disk-actions.js';
import { expectSameBytes, ModelDisk, type ModelShape } from './model-disk.js';
import type { SeededRandom } from './seeded-random.js';

const GUEST: readonly DiskAction[] = ['write', 'write', 'write', 'writeZeroes', 'unmap', 'discard', 'read'];

export interface ModelSnapshot {
  readonly id: string;
  readonly name: string;
  readonly disk: Uint8Array;
  readonly vmState: Uint8Array;
}

export interface HistoryOptions {
  /** The disk is resized now and then. */
  readonly resizes?: boolean;
  /** VM state is compressed now and then. */
  readonly compresses?: boolean;
  /** Bytes of VM state, at most. */
  readonly longestState?: number;
  /** Snapshots have no VM state. */
  readonly disksAlone?: boolean;
}

export class SnapshotHistory {
  readonly snapshots: ModelSnapshot[] = [];
  model: ModelDisk;
  readonly #shape: ModelShape;
  readonly #random: SeededRandom;
  readonly #options: HistoryOptions;
  #made = 0;

  constructor(shape: ModelShape, random: SeededRandom, options: HistoryOptions = {}) {
    this.model = new ModelDisk(shape);
    this.#shape = shape;
    this.#random = random;
    this.#options = options;
  }

  guest(image: Qcow2Image, count: number): void {
    const { clusterSize } = this.#shape;
    for (let index = 0; index < count; index++) {
      const range = randomRange(this.#random, this.model.size, clusterSize, Math.max(4096, 2.5 * clusterSize));
      act(this.#random.pick(GUEST), range, { disk: image, model: this.model, random: this.#random });
    }
  }

  /** One random operation on snapshots. Returns what it was. */
  step(image: Qcow2Image): string {
    const choice = this.#random.below(10);
    if (choice === 0 && this.#options.resizes === true) return this.resize(image);
    if (this.snapshots.length === 0 || choice < 5) return this.create(image);
    const chosen = this.#random.pick(this.snapshots);
    return choice < 8 ? this.goto(image, chosen) : this.delete(image, chosen);
  }

  create(image: Qcow2Image): string {
    const vmState = this.#options.disksAlone === true || this.#random.oneIn(3) ? new Uint8Array(0) : this.#state();
    const like = this.#random.oneIn(4) ? null : (this.snapshots.at(-1)?.id ?? null);
    this.#writeState(image, vmState, like);
    const name = `snapshot ${++this.#made}`;
    const { id } = createSnapshot(image, { name, vmStateBytes: vmState.length });
    this.snapshots.push({ id, name, disk: this.model.bytes.slice(), vmState });
    return `create ${id}`;
  }

  goto(image: Qcow2Image, snapshot: ModelSnapshot): string {
    const vmState = this.#random.oneIn(2) ? 'drop' : 'keep';
    gotoSnapshot(image, this.#key(snapshot), { vmState });
    if (vmState === 'keep') {
      const state = new Uint8Array(snapshot.vmState.length);
      readVmState(image, 0, state);
      expectSameBytes(state, snapshot.vmState, `the VM state after going to ${snapshot.id}`);
    }
    this.wentTo(snapshot);
    return `goto ${snapshot.id}`;
  }

  delete(image: Qcow2Image, snapshot: ModelSnapshot): string {
    const steps = deleteSnapshot(image, this.#key(snapshot));
    // The guest works on meanwhile.
    while (steps.next().done !== true) this.guest(image, 2);
    this.deleted(snapshot);
    return `delete ${snapshot.id}`;
  }

  resize(image: Qcow2Image): string {
    const size = this.#random.between(1, Math.ceil((2 * this.#shape.size) / 512)) * 512;
    runToEnd(resizeImage(image, { size, shrink: true }));
    const old = this.model.bytes;
    this.#become(size, old.subarray(0, size));
    return `resize to ${size}`;
  }

  /** Somebody has gone to the snapshot. */
  wentTo({ disk }: ModelSnapshot): void {
    this.#become(disk.length, disk);
  }

  /** Somebody has deleted the snapshot. */
  deleted(snapshot: ModelSnapshot): void {
    this.snapshots.splice(this.snapshots.indexOf(snapshot), 1);
  }

  /** Compares the disk, the list, and the disk and state of every snapshot. */
  expect(image: Qcow2Image): void {
    expectSameBytes(readWhole(image), this.model.bytes, 'the active disk');
    const listed = listSnapshots(image).map(({ id, name }) => `${id} ${name}`);
    const wanted = this.snapshots.map(({ id, name }) => `${id} ${name}`);
    if (listed.join() !== wanted.join()) throw new Error(`the list is ${listed.join()}, expected ${wanted.join()}`);
    for (const snapshot of this.snapshots) {
      const view = openSnapshot(image, { id: snapshot.id });
      expectSameBytes(readWhole(view), snapshot.disk, `the disk of snapshot ${snapshot.id}`);
      const { length } = snapshot.vmState;
      const state = new Uint8Array(length).fill(0xa5);
      view.readVmState(0, state);
      expectSameBytes(state, snapshot.vmState, `the VM state of snapshot ${snapshot.id}`);
      const { clusterSize } = this.#shape;
      const behind = new Uint8Array(3 * clusterSize).fill(0xa5);
      view.readVmState(Math.ceil(length / clusterSize) * clusterSize, behind);
      expectSameBytes(behind, new Uint8Array(behind.length), `what lies behind the VM state of ${snapshot.id}`);
    }
  }

  #key({ id, name }: ModelSnapshot): SnapshotKey {
    return this.#random.pick<SnapshotKey>([id, { id }, { name }]);
  }

  /** Mostly what the last one had: it is to be shared. */
  #state(): Uint8Array {
    const last = this.snapshots.at(-1)?.vmState ?? new Uint8Array(0);
    const length = this.#random.between(1, this.#options.longestState ?? 6 * this.#shape.clusterSize);
    const state = new Uint8Array(length);
    state.set(last.subarray(0, length));
    for (let changes = this.#random.between(0, 3); changes > 0; changes--) {
      const { offset, length: count } = randomRange(this.#random, length, this.#shape.clusterSize, length);
      state.set(this.#random.oneIn(3) ? new Uint8Array(count) : this.#random.bytes(count), offset);
    }
    return state;
  }

  #writeState(image: Qcow2Image, state: Uint8Array, like: string | null): void {
    const compress = this.#options.compresses === true && this.#random.oneIn(2);
    for (let at = 0; at < state.length;) {
      const length = Math.min(state.length - at, this.#random.between(1, 3 * this.#shape.clusterSize));
      writeVmState(image, at, state.subarray(at, at + length), { like, compress });
      at += length;
    }
  }

  #become(size: number, bytes: Uint8Array): void {
    this.model = new ModelDisk({ ...this.#shape, size });
    this.model.writeZeroes(0, size);
    this.model.write(0, bytes);
  }
}
