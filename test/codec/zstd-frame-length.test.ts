import { describe, expect, it } from 'vitest';
import { codecFor, COMPRESSION_ZSTD } from '../../src/codec/cluster-codec.js';
import { zstdFrameLength } from '../../src/codec/zstd-frame-length.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { mixedBytes, withNeighbour } from './codec-cases.js';

const MAGIC = [0x28, 0xb5, 0x2f, 0xfd];

/** A block header: 3 bytes, little endian. */
function block(last: boolean, type: 0 | 1 | 2 | 3, size: number): number[] {
  const header = (last ? 1 : 0) | (type << 1) | (size << 3);
  return [header & 0xff, (header >> 8) & 0xff, header >> 16];
}

function lengthOf(...bytes: number[]): number {
  return zstdFrameLength(Uint8Array.from([...bytes, 0xee, 0xee]), 'here');
}

const zstd = codecFor(COMPRESSION_ZSTD);

function decompressed(bytes: readonly number[], size: number): number[] {
  const target = new Uint8Array(size);
  zstd.decompress(Uint8Array.from(bytes), target, 'here');
  return [...target];
}

describe('the length of a zstd frame', () => {
  it('is that of the stream for everything the library writes', () =>
    withSeed('frames', seedOfThisRun(1), (random) => {
      for (const size of [512, 4096, 65536, 300_000, 2 ** 21]) {
        const stream = zstd.compress(mixedBytes(size, random))!;
        expect(zstdFrameLength(withNeighbour(stream, random), 'here')).toBe(stream.length);
      }
    }));

  it('counts the fields of the header as the descriptor says', () => {
    const raw = [...block(true, 0, 1), 7];
    expect(lengthOf(...MAGIC, 0x00, 0, ...raw), 'window').toBe(4 + 1 + 1 + 4);
    expect(lengthOf(...MAGIC, 0x20, 1, ...raw), 'content size of 1 byte').toBe(4 + 1 + 1 + 4);
    expect(lengthOf(...MAGIC, 0x40, 0, 0, 0, ...raw), 'window, content size of 2').toBe(4 + 1 + 3 + 4);
    expect(lengthOf(...MAGIC, 0xa0, 1, 0, 0, 0, ...raw), 'content size of 4').toBe(4 + 1 + 4 + 4);
    expect(lengthOf(...MAGIC, 0xe0, 1, 0, 0, 0, 0, 0, 0, 0, ...raw), 'content size of 8').toBe(4 + 1 + 8 + 4);
    expect(lengthOf(...MAGIC, 0x23, 0, 0, 0, 0, 1, ...raw), 'dictionary id of 4').toBe(4 + 1 + 5 + 4);
    expect(lengthOf(...MAGIC, 0x24, 1, ...raw, 1, 2, 3, 4), 'checksum').toBe(4 + 1 + 1 + 4 + 4);
  });

  it('counts one byte for an RLE block, whatever its size', () => {
    expect(lengthOf(...MAGIC, 0x00, 0, ...block(false, 1, 5000), 9, ...block(true, 1, 3), 8)).toBe(4 + 2 + 4 + 4);
  });

  it('counts a skippable frame', () => {
    expect(lengthOf(0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3)).toBe(11);
  });

  it.each([
    ['nothing', [], /the zstd magic number ends at byte 4; there are 2/],
    ['another magic number', [0x1f, 0x8b, 8, 0], /here: 0x88b1f is not the magic number of zstd/],
    [
      'a block that is cut short',
      [...MAGIC, 0x00, 0, ...block(true, 0, 100), 1],
      /zstd frame ends at byte 109; there are 12/,
    ],
    ['no last block', [...MAGIC, 0x00, 0, ...block(false, 0, 2), 1, 2], /block header ends at byte 14; there are 13/],
    ['a reserved block', [...MAGIC, 0x00, 0, ...block(true, 3, 1), 1], /a zstd block has the reserved type 3/],
    [
      'a skippable frame past the end',
      [0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff],
      /skippable frame ends at byte 4294967303/,
    ],
  ])('is refused for %s', (_name, bytes, message) => {
    expect(() => lengthOf(...bytes)).toThrow(message);
  });
});

describe('a cluster of several frames', () => {
  const nine = [...MAGIC, 0x20, 2, ...block(true, 1, 2), 9];
  const eight = [...MAGIC, 0x20, 3, ...block(true, 0, 3), 8, 7, 8];
  const skippable = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 42];

  it('is read to where it is full, over skippable frames', () => {
    expect(decompressed([...nine, ...skippable, ...eight, 1, 2, 3], 5)).toEqual([9, 9, 8, 7, 8]);
  });

  it('is refused when the last frame holds more than fits', () => {
    expect(() => decompressed([...nine, ...eight], 4)).toThrow(
      'here: the zstd frame holds more than the 4 bytes of a cluster',
    );
  });

  it('is refused when the frames end too early', () => {
    expect(() => decompressed([...nine, ...eight], 6)).toThrow(
      'here: the zstd magic number ends at byte 4; there are 0',
    );
  });

  it('is refused when a frame needs a dictionary', () => {
    expect(() => decompressed([...MAGIC, 0x21, 7, 1, ...block(true, 0, 1), 5], 1)).toThrow(
      /here: the zstd frame is damaged/,
    );
  });
});
