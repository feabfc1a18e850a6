/**
 * What every codec must do: give a cluster back whole whatever follows its stream, say when compressing gains nothing, and
 * answer every damage with a `Qcow2Error`, never with wrong lengths, a hang or another error.
 */
import { inflateRawSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { COMPRESSION_ZLIB, COMPRESSION_ZSTD, codecFor } from '../../src/codec/cluster-codec.js';
import { isQcow2Error } from '../../src/errors.js';
import { SeededRandom, seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { mixedBytes, noiseBytes, withNeighbour } from './codec-cases.js';

const CLUSTER_SIZES = [512, 4096, 65536, 2 ** 21];

describe.each([
  ['deflate', COMPRESSION_ZLIB],
  ['zstd', COMPRESSION_ZSTD],
])('the %s codec', (_name, type) => {
  it.each(CLUSTER_SIZES)('gives a cluster of %i bytes back, whatever follows its stream in the last sector', (size) =>
    withSeed('round trip', seedOfThisRun(size), (random) => {
      const codec = codecFor(type);
      for (let round = 0; round < 5; round++) {
        const cluster = mixedBytes(size, random);
        const stream = codec.compress(cluster)!;
        expect(stream.length).toBeLessThan(size);
        const target = new Uint8Array(size).fill(0xa5);
        codec.decompress(withNeighbour(stream, random), target, 'a cluster');
        expect(Buffer.compare(target, cluster)).toBe(0);
      }
    }),
  );

  it.each(CLUSTER_SIZES)('compresses zeroes of %i bytes to less than a tenth', (size) => {
    const stream = codecFor(type).compress(new Uint8Array(size));
    expect(stream!.length).toBeLessThan(size / 10);
  });

  it.each(CLUSTER_SIZES)('says that noise of %i bytes does not get shorter, and goes on working', (size) => {
    const random = new SeededRandom(seedOfThisRun(size));
    const codec = codecFor(type);
    expect(codec.compress(noiseBytes(size, random))).toBeNull();
    const cluster = mixedBytes(size, random, 100);
    const target = new Uint8Array(size);
    codec.decompress(codec.compress(cluster)!, target, 'a cluster');
    expect(Buffer.compare(target, cluster)).toBe(0);
  });

  it('refuses a stream that is cut short, with the place', () => {
    const codec = codecFor(type);
    const stream = codec.compress(mixedBytes(4096, new SeededRandom(1), 1000))!;
    for (let length = 0; length < stream.length - 4; length += 37) {
      expect(() => codec.decompress(stream.subarray(0, length), new Uint8Array(4096), 'cluster 7')).toThrow(
        /^cluster 7: /,
      );
    }
  });

  it('answers each flipped bit with a cluster or an error of its own', () =>
    withSeed('damage', seedOfThisRun(type), (random) => {
      const codec = codecFor(type);
      const stream = codec.compress(mixedBytes(4096, random, 1000))!;
      let refused = 0;
      for (let round = 0; round < 2000; round++) {
        const damaged = stream.slice();
        damaged[random.below(stream.length)]! ^= 1 << random.below(8);
        try {
          codec.decompress(damaged, new Uint8Array(4096), 'a cluster');
        } catch (error) {
          if (!isQcow2Error(error, 'BAD_IMAGE')) throw error;
          refused++;
        }
      }
      expect(refused).toBeGreaterThan(0);
      const target = new Uint8Array(4096);
      codec.decompress(stream, target, 'a cluster');
      expect(codec.compress(target)).toEqual(stream);
    }));

  it('refuses a stream that holds less than a cluster', () => {
    const codec = codecFor(type);
    const stream = codec.compress(new Uint8Array(512))!;
    expect(() => codec.decompress(stream, new Uint8Array(4096), 'a cluster')).toThrow(/^a cluster: /);
  });
});

describe('the codec of an image', () => {
  it('is refused for a compression type that nobody knows, with its value', () => {
    expect(() => codecFor(7)).toThrow('compression_type is 7; 0 (zlib) and 1 (zstd) are supported');
  });

  it('writes deflate without a header and with a window of at most 4096 bytes', () => {
    // What repeats after 5000 bytes lies outside the window, and does not get shorter; after 3000 it does.
    const repeating = (distance: number): Uint8Array => {
      const cluster = noiseBytes(8192, new SeededRandom(3));
      cluster.copyWithin(distance, 0, 8192 - distance);
      return cluster;
    };
    const codec = codecFor(COMPRESSION_ZLIB);
    expect(codec.compress(repeating(5000))).toBeNull();
    const cluster = repeating(3000);
    const stream = codec.compress(cluster)!;
    expect(Buffer.compare(inflateRawSync(stream, { windowBits: 12 }), cluster)).toBe(0);
  });
});
