/** QEMU's part in a history of snapshots: what qemu-img and qemu-io do to an image, noted in the model that ours is driven by. */
import { listSnapshots, openSnapshot, type Qcow2Image } from '../../src/index.js';
import { randomRange, readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import type { SeededRandom } from '../support/seeded-random.js';
import type { ModelSnapshot, SnapshotHistory } from '../support/snapshot-history.js';
import { qemuBytes, qemuImg, qemuInfo, qemuIo } from './qemu.js';

/** A snapshot as `qemu-img info --output=json` tells of it. */
export interface QemuSnapshot {
  readonly id: string;
  readonly name: string;
  readonly 'date-sec': number;
  readonly 'date-nsec': number;
  readonly 'vm-clock-sec': number;
  readonly 'vm-clock-nsec': number;
  readonly 'vm-state-size': number;
  /** Missing where none is recorded. */
  readonly icount?: number;
}

export function qemuSnapshots(file: string): readonly QemuSnapshot[] {
  return (qemuInfo(file)['snapshots'] ?? []) as readonly QemuSnapshot[];
}

/** What our list says, as QEMU's JSON would. */
export function asQemuLists(image: Qcow2Image): readonly QemuSnapshot[] {
  return listSnapshots(image).map(({ id, name, date, vmClock, vmStateBytes, instructionCount }) => ({
    id,
    name,
    'date-sec': date.seconds,
    'date-nsec': date.nanoseconds,
    'vm-clock-sec': Number(vmClock / 1_000_000_000n),
    'vm-clock-nsec': Number(vmClock % 1_000_000_000n),
    'vm-state-size': vmStateBytes,
    ...(instructionCount === null ? {} : { icount: Number(instructionCount) }),
  }));
}

/** Somebody has given the disk `size` bytes; what is new reads as zeroes. */
export function becomes(history: SnapshotHistory, size: number): void {
  const disk = new Uint8Array(size);
  disk.set(history.model.bytes.subarray(0, size));
  history.wentTo({ id: '', name: '', disk, vmState: new Uint8Array(0) });
}

/**
 * Compares what we read with the model: the disk, and each snapshot with its VM state. What lies behind a VM state is not
 * looked at: QEMU leaves there what a snapshot that was gone to had.
 */
export function expectOurs(image: Qcow2Image, { model, snapshots }: SnapshotHistory): void {
  expectSameBytes(readWhole(image), model.bytes, 'the active disk');
  for (const { id, disk, vmState } of snapshots) {
    const view = openSnapshot(image, { id });
    expectSameBytes(readWhole(view), disk, `the disk of snapshot ${id}`);
    const state = new Uint8Array(vmState.length);
    view.readVmState(0, state);
    expectSameBytes(state, vmState, `the VM state of snapshot ${id}`);
  }
}

export class QemuTurn {
  readonly #file: string;
  readonly #history: SnapshotHistory;
  readonly #random: SeededRandom;
  readonly #clusterSize: number;

  constructor(file: string, clusterSize: number, history: SnapshotHistory, random: SeededRandom) {
    this.#file = file;
    this.#clusterSize = clusterSize;
    this.#history = history;
    this.#random = random;
  }

  /** `count` random operations of a guest, in one qemu-io. */
  guest(count: number): void {
    const commands: string[] = [];
    for (let index = 0; index < count; index++) commands.push(this.#command());
    if (commands.length > 0) qemuIo(this.#file, commands);
  }

  create(name: string): string {
    qemuImg('snapshot', '-c', name, this.#file);
    const made = qemuSnapshots(this.#file).at(-1)!;
    const disk = this.#history.model.bytes.slice();
    this.#history.snapshots.push({ id: made.id, name, disk, vmState: new Uint8Array(0) });
    return `QEMU creates ${made.id}`;
  }

  goto(snapshot: ModelSnapshot): string {
    qemuImg('snapshot', '-a', this.#random.pick([snapshot.id, snapshot.name]), this.#file);
    this.#history.wentTo(snapshot);
    return `QEMU goes to ${snapshot.id}`;
  }

  /** Told by its name: `qemu-img snapshot -d` knows no ids. */
  delete(snapshot: ModelSnapshot): string {
    qemuImg('snapshot', '-d', snapshot.name, this.#file);
    this.#history.deleted(snapshot);
    return `QEMU deletes ${snapshot.id}`;
  }

  resize(): string {
    const size = this.#random.between(1, 100) * this.#clusterSize;
    qemuImg('resize', '-q', '--shrink', '-f', 'qcow2', this.#file, String(size));
    becomes(this.#history, size);
    return `QEMU resizes to ${size}`;
  }

  /**
   * One random operation, or none. `full` says that no refcount can hold one more: QEMU, which counts the new references
   * before it gives up the old, can't go to a snapshot then.
   */
  step(options: { readonly full: boolean; readonly resize: boolean }): string {
    const { snapshots } = this.#history;
    const choice = this.#random.below(options.resize ? 7 : 6);
    if (choice === 6) return this.resize();
    if (snapshots.length === 0 || choice < 2) {
      return options.full ? 'nothing' : this.create(`by QEMU ${this.#random.next()}`);
    }
    const chosen = this.#random.pick(snapshots);
    return choice < 4 && !options.full ? this.goto(chosen) : this.delete(chosen);
  }

  /** Has QEMU read the active disk and every snapshot. It gives a snapshot the size of the active disk. */
  expectContents(when: string): void {
    const { model, snapshots } = this.#history;
    expectSameBytes(qemuBytes(this.#file), model.bytes, `the active disk, read by QEMU ${when}`);
    for (const { id, name, disk } of snapshots) {
      const read = qemuBytes(this.#file, { snapshot: name });
      const both = Math.min(read.length, disk.length);
      const what = `the disk of snapshot ${id}, read by QEMU ${when}`;
      expectSameBytes(read.subarray(0, both), disk.subarray(0, both), what);
    }
  }

  #command(): string {
    const { model } = this.#history;
    const range = randomRange(this.#random, model.size, this.#clusterSize, Math.max(4096, 2.5 * this.#clusterSize));
    const { offset, length } = range;
    switch (this.#random.below(5)) {
      case 0:
        model.discard(offset, length);
        return `discard ${offset} ${length}`;
      case 1:
        model.writeZeroes(offset, length);
        return `write -z ${this.#random.pick(['', '-u '])}${offset} ${length}`;
      default: {
        const pattern = this.#random.between(1, 255);
        model.write(offset, new Uint8Array(length).fill(pattern));
        return `write -P ${pattern} ${offset} ${length}`;
      }
    }
  }
}
