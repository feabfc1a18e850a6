/**
 * Turns on one image: QEMU writes, we write, and a model keeps what a guest must read after each.
 */
import type { Disk } from '../../src/disk.js';
import type { Qcow2Image } from '../../src/index.js';
import { act, randomRange, type DiskAction } from '../support/disk-actions.js';
import { ModelDisk, type ModelShape, type Range } from '../support/model-disk.js';
import type { SeededRandom } from '../support/seeded-random.js';

const OUR_ACTIONS: readonly DiskAction[] = ['write', 'write', 'write', 'writeZeroes', 'unmap', 'discard', 'read'];
const QEMU_ACTIONS = ['write', 'write', 'write', 'zero', 'unmap', 'discard', 'compressed', 'compressed'] as const;

export class Turns {
  readonly model: ModelDisk;
  readonly #shape: ModelShape;
  readonly #random: SeededRandom;
  /** Clusters that something was done to. QEMU refuses to write a compressed cluster over an allocated one. */
  readonly #touched = new Set<number>();

  constructor(shape: ModelShape, random: SeededRandom) {
    this.model = new ModelDisk(shape);
    this.#shape = shape;
    this.#random = random;
  }

  /** `count` random operations of ours. */
  ours(disk: Disk, count: number): void {
    for (let index = 0; index < count; index++) {
      const action = this.#random.pick(OUR_ACTIONS);
      const range = this.#range();
      this.#touch(range);
      act(action, range, { disk, model: this.model, random: this.#random });
    }
  }

  /** `count` compressed writes of ours, of some clusters each. */
  oursCompressed(image: Qcow2Image, count: number): void {
    const { size, clusterSize } = this.#shape;
    for (let index = 0; index < count; index++) {
      const start = Math.floor(this.#range().offset / clusterSize) * clusterSize;
      const length = Math.min(size - start, clusterSize * this.#random.between(1, 3));
      const content = this.#compressible(length);
      this.#touch({ offset: start, length });
      image.writeCompressed(start, content);
      this.model.write(start, content);
    }
  }

  /** `count` random operations as commands for one qemu-io; the model has them done already. */
  qemuCommands(count: number, options: { readonly compress?: boolean } = {}): string[] {
    const commands: string[] = [];
    const possible = QEMU_ACTIONS.filter((action) => action !== 'compressed' || options.compress !== false);
    const actions = Array.from({ length: count }, () => this.#random.pick(possible));
    // QEMU 7.2 keeps the place for the next compressed cluster even when that host cluster has been freed and used for a
    // table since, and then calls the image corrupt. So what is compressed comes before anything that frees.
    actions.sort((a, b) => Number(b === 'compressed') - Number(a === 'compressed'));
    for (const action of actions) {
      const range = action === 'compressed' ? this.#untouchedCluster() : this.#range();
      if (!range) continue;
      this.#touch(range);
      commands.push(this.#qemuCommand(action, range));
    }
    return commands;
  }

  /** Commands by which qemu-io itself compares what it reads with the model. */
  qemuReads(count: number): string[] {
    const commands: string[] = [];
    for (let index = 0; index < count; index++) {
      const offset = this.#random.below(this.model.size);
      const byte = this.model.bytes[offset] ?? 0;
      let end = offset;
      while (end < this.model.size && end - offset < 0x20000 && this.model.bytes[end] === byte) end++;
      commands.push(`read -P ${byte} ${offset} ${end - offset}`);
    }
    return commands;
  }

  #qemuCommand(action: (typeof QEMU_ACTIONS)[number], { offset, length }: Range): string {
    if (action === 'discard') {
      this.model.discard(offset, length);
      return `discard ${offset} ${length}`;
    }
    if (action === 'zero' || action === 'unmap') {
      this.model.writeZeroes(offset, length);
      return `write -z ${action === 'unmap' ? '-u ' : ''}${offset} ${length}`;
    }
    const pattern = this.#random.between(1, 255);
    this.model.write(offset, new Uint8Array(length).fill(pattern));
    return `write ${action === 'compressed' ? '-c ' : ''}-P ${pattern} ${offset} ${length}`;
  }

  /** Bytes that get smaller, or in one case of five do not. */
  #compressible(length: number): Uint8Array {
    if (this.#random.oneIn(5)) return this.#random.bytes(length);
    const step = this.#random.between(1, 200);
    return Uint8Array.from({ length }, (_, index) => (index * step) >> 7);
  }

  #range(): Range {
    const { size, clusterSize } = this.#shape;
    return randomRange(this.#random, size, clusterSize, Math.max(0x10000, 2.5 * clusterSize));
  }

  #untouchedCluster(): Range | undefined {
    const { size, clusterSize } = this.#shape;
    const whole = Math.floor(size / clusterSize);
    for (let attempt = 0; attempt < 4; attempt++) {
      const cluster = this.#random.below(whole);
      if (!this.#touched.has(cluster)) return { offset: cluster * clusterSize, length: clusterSize };
    }
    return undefined;
  }

  #touch({ offset, length }: Range): void {
    const { clusterSize } = this.#shape;
    const last = Math.floor((offset + length - 1) / clusterSize);
    for (let cluster = Math.floor(offset / clusterSize); cluster <= last; cluster++) this.#touched.add(cluster);
  }
}
