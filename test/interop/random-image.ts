/** Images with something of everything in them, made by QEMU from a seed. */
import { readFileSync, writeFileSync } from 'node:fs';
import type { SeededRandom } from '../support/seeded-random.js';
import { qemuCreate, qemuIo, type CreateImage } from './qemu.js';

export interface RandomImage extends CreateImage {
  readonly clusterSize: number;
  /** Compressed writes are not possible with an external data file. Default true. */
  readonly compressed?: boolean;
  /** `qemu-io` commands. Default 40. */
  readonly commands?: number;
}

/** The options of `qemu-img create` for a cluster size, and others. */
export function withClusterSize(
  clusterSize: number,
  others: Readonly<Record<string, string | number>> = {},
): Record<string, string | number> {
  return { cluster_size: clusterSize, ...others };
}

/** Creates an image and writes, zeroes, unmaps, discards and compresses in it. */
export function makeRandomImage(path: string, image: RandomImage, random: SeededRandom): void {
  qemuCreate(path, { ...image, options: withClusterSize(image.clusterSize, image.options) });
  qemuIo(path, randomCommands(image, random));
  fillHoles(path);
}

/**
 * Writes the file anew without holes. Where an image file has many, QEMU takes it for one with preallocated metadata and
 * calls zero what lies in them; a storage does not tell of holes.
 */
export function fillHoles(path: string): void {
  writeFileSync(path, readFileSync(path));
}

/** Compressed writes come first: QEMU refuses them for clusters that are stored plainly. */
export function randomCommands(image: RandomImage, random: SeededRandom): string[] {
  const { size, clusterSize, compressed = true, commands = 40 } = image;
  const clusters = Math.floor(size / clusterSize);
  const packed = compressed ? Math.min(clusters, Math.ceil(commands / 4)) : 0;
  const chosen = new Set(Array.from({ length: packed }, () => random.below(clusters)));
  return [
    ...[...chosen].map((cluster) => `write -c -P ${random.between(1, 255)} ${cluster * clusterSize} ${clusterSize}`),
    ...Array.from({ length: commands - packed }, () => randomCommand(image, random)),
  ];
}

function randomCommand({ size, clusterSize }: RandomImage, random: SeededRandom): string {
  const sectors = Math.floor(size / 512);
  const whole = random.oneIn(2) ? clusterSize / 512 : 1;
  const first = Math.floor(random.below(sectors) / whole) * whole;
  const length = Math.min(sectors - first, whole * random.between(1, 6)) * 512;
  const range = `${first * 512} ${length}`;
  const kinds = [`write -P ${random.between(1, 255)}`, `write -P ${random.between(1, 255)}`, 'write -z', 'write -z -u'];
  return `${random.pick([...kinds, 'discard'])} ${range}`;
}
