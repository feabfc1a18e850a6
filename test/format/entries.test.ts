import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeCompressedDescriptor } from '../../src/format/compressed-descriptor.js';
import { decodeFeatureNames, encodeFeatureNames, KNOWN_FEATURES } from '../../src/format/features.js';
import { geometryOf, l1EntriesFor } from '../../src/format/geometry.js';
import { highOf, l2EntryCopied, l2EntryHost, l2EntryKind, lowOf } from '../../src/format/l2-entry.js';

const words = (entry: bigint): [number, number] => [Number(entry & 0xffff_ffffn), Number(entry >> 32n)];

describe('an L2 entry', () => {
  it.each([
    [0n, 'unallocated'],
    [1n, 'zero'],
    [(1n << 63n) | 0x50000n, 'data'],
    [0x50000n, 'data'],
    [(1n << 63n) | 0x50001n, 'zero-allocated'],
    [(1n << 40n) | 1n, 'zero-allocated'],
    [(1n << 62n) | 0x1234n, 'compressed'],
    [(1n << 62n) | 1n, 'compressed'],
  ] as const)('%s is of kind %s', (entry, kind) => {
    expect(l2EntryKind(...words(entry))).toBe(kind);
  });

  it('holds any host offset that a number can', () => {
    const hosts = fc.integer({ min: 1, max: 2 ** 44 - 1 }).map((sector) => sector * 512);
    fc.assert(
      fc.property(hosts, fc.boolean(), (host, copied) => {
        const high = (highOf(host) | (copied ? 0x8000_0000 : 0)) >>> 0;
        expect(l2EntryHost(lowOf(host), high)).toBe(host);
        expect(l2EntryCopied(high)).toBe(copied);
        expect(l2EntryKind(lowOf(host), high)).toBe('data');
      }),
    );
  });
});

describe('a compressed cluster descriptor', () => {
  it('is cut into offset and sectors as the specification says, for every cluster size', () => {
    const cases = fc.record({
      clusterBits: fc.integer({ min: 9, max: 21 }),
      sectors: fc.nat(),
      offset: fc.bigInt({ min: 0n, max: 2n ** 49n - 1n }),
    });
    fc.assert(
      fc.property(cases, ({ clusterBits, sectors, offset }) => {
        const shift = BigInt(62 - (clusterBits - 8));
        const additional = sectors % 2 ** (clusterBits - 8);
        const entry = (1n << 62n) | (BigInt(additional) << shift) | offset;
        const descriptor = decodeCompressedDescriptor(...words(entry), clusterBits);
        expect(descriptor.host).toBe(Number(offset));
        // The stream may use every byte up to the end of its last sector.
        expect((descriptor.host + descriptor.length) % 512).toBe(0);
        expect(Math.ceil(descriptor.length / 512)).toBe(additional + 1);
      }),
    );
  });
});

describe('the feature name table', () => {
  it('comes back as it was written', () => {
    expect(decodeFeatureNames(encodeFeatureNames(KNOWN_FEATURES))).toEqual(KNOWN_FEATURES);
  });

  it('keeps a name that fills its 46 bytes', () => {
    const feature = { kind: 'compatible', bit: 63, name: 'n'.repeat(46) } as const;
    expect(decodeFeatureNames(encodeFeatureNames([feature]))).toEqual([feature]);
  });

  it('leaves out entries of an unknown type', () => {
    const bytes = encodeFeatureNames(KNOWN_FEATURES.slice(0, 2));
    bytes[0] = 3;
    expect(decodeFeatureNames(bytes)).toEqual([KNOWN_FEATURES[1]]);
  });
});

describe('the geometry', () => {
  it('follows from cluster bits and refcount order', () => {
    expect(geometryOf(16, 4)).toMatchObject({
      clusterSize: 65536,
      l2Entries: 8192,
      refcountBlockEntries: 32768,
      maxRefcount: 65535,
    });
    expect(geometryOf(9, 0)).toMatchObject({
      clusterSize: 512,
      l2Entries: 64,
      refcountBlockEntries: 4096,
      maxRefcount: 1,
    });
    expect(geometryOf(21, 6)).toMatchObject({ refcountBlockEntries: 262144, maxRefcount: Number.MAX_SAFE_INTEGER });
  });

  it('needs one L1 entry for each L2 table begun', () => {
    const geometry = geometryOf(16, 4);
    expect(l1EntriesFor(geometry, 0)).toBe(0);
    expect(l1EntriesFor(geometry, 512 * 1024 * 1024)).toBe(1);
    expect(l1EntriesFor(geometry, 512 * 1024 * 1024 + 512)).toBe(2);
  });
});
