/** Images with something of everything in them, made by QEMU from a seed. */
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
}

export function randomCommands(image: RandomImage, random: SeededRandom): string[] {
  return Array.from({ length: image.commands ?? 40 }, () => randomCommand(image, random));
}

function randomCommand({ size, clusterSize, compressed = true }: RandomImage, random: SeededRandom): string {
  const sectors = Math.floor(size / 512);
  const choice = random.below(compressed ? 6 : 5);
  if (choice === 5) {
    const cluster = random.below(Math.floor(size / clusterSize));
    return `write -c -P ${random.between(1, 255)} ${cluster * clusterSize} ${clusterSize}`;
  }
  const whole = random.oneIn(2) ? clusterSize / 512 : 1;
  const first = Math.floor(random.below(sectors) / whole) * whole;
  const length = Math.min(sectors - first, whole * random.between(1, 6)) * 512;
  const range = `${first * 512} ${length}`;
  switch (choice) {
    case 2:
      return `write -z ${range}`;
    case 3:
      return `write -z -u ${range}`;
    case 4:
      return `discard ${range}`;
    default:
      return `write -P ${random.between(1, 255)} ${range}`;
  }
}
