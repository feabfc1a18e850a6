/** Clusters of many kinds, for the tests of every codec. */
import type { SeededRandom } from '../support/seeded-random.js';

/** Bytes that compress well but not to nothing: `noise` of each 4096 are random, by default not more than a third. */
export function mixedBytes(
  length: number,
  random: SeededRandom,
  noise = random.below(Math.ceil(Math.min(length, 4096) / 3)),
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let index = 0; index < length; index++) {
    bytes[index] = (index & 4095) < noise ? random.next() : (index >>> 12) + (index >>> 5);
  }
  return bytes;
}

/** Bytes that no codec makes shorter. */
export function noiseBytes(length: number, random: SeededRandom): Uint8Array<ArrayBuffer> {
  return mixedBytes(length, random, 4096);
}

/** `stream` as it lies in the file: somebody else's bytes follow it up to the end of its last sector. */
export function withNeighbour(stream: Uint8Array, random: SeededRandom): Uint8Array<ArrayBuffer> {
  const source = noiseBytes(stream.length + random.below(512), random);
  source.set(stream);
  return source;
}
