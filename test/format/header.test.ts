import { describe, expect, it } from 'vitest';
import { Qcow2Error } from '../../src/errors.js';
import { decodeExtensions, encodeExtensions } from '../../src/format/header-extensions.js';
import { decodeHeader, encodeHeader, probeClusterSize, type Header } from '../../src/format/header.js';

function sample(changes: Partial<Header> = {}): Header {
  return {
    version: 3,
    clusterBits: 16,
    size: 64 * 1024 * 1024,
    cryptMethod: 0,
    l1Entries: 1,
    l1Offset: 0x30000,
    refcountTableOffset: 0x10000,
    refcountTableClusters: 1,
    snapshotCount: 0,
    snapshotsOffset: 0,
    incompatible: 0n,
    compatible: 1n << 40n,
    autoclear: 1n << 63n,
    refcountOrder: 4,
    headerLength: 112,
    compressionType: 0,
    additionalFields: new Uint8Array(8),
    extensions: [],
    backingFile: null,
    dataFileName: null,
    ...changes,
  };
}

function inCluster(header: Header): Uint8Array {
  const cluster = new Uint8Array(2 ** header.clusterBits);
  cluster.set(encodeHeader(header));
  return cluster;
}

function messageOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(Qcow2Error);
    return `${(error as Qcow2Error).code}: ${(error as Qcow2Error).message}`;
  }
  throw new Error('nothing was thrown');
}

describe('the header', () => {
  it('comes back from its bytes as it went in, with unknown fields, flags and extensions', () => {
    const unknown = { type: 0x1234_5678, data: Uint8Array.of(1, 2, 3, 4, 5) };
    const header = sample({
      headerLength: 120,
      additionalFields: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 9, 8, 7, 6, 5, 4, 3, 2),
      extensions: [{ type: 0xe279_2aca, data: new TextEncoder().encode('raw') }, unknown],
      backingFile: { name: 'bäse.img', format: 'raw' },
    });
    expect(decodeHeader(inCluster(header))).toEqual(header);
  });

  it('of version 2 has 72 bytes, 16 bit refcounts and no features', () => {
    const header = sample({ version: 2, compatible: 0n, autoclear: 0n, additionalFields: new Uint8Array(0) });
    const decoded = decodeHeader(inCluster(header));
    expect(decoded.headerLength).toBe(72);
    expect(decoded.refcountOrder).toBe(4);
    expect(decoded.incompatible).toBe(0n);
  });

  it('that does not fit the first cluster is refused with both sizes', () => {
    const header = sample({ clusterBits: 9, backingFile: { name: 'x'.repeat(500), format: null } });
    expect(messageOf(() => encodeHeader(header))).toBe('LIMIT: the header needs 620 bytes; the first cluster has 512');
  });

  it('names an unknown incompatible feature by the image’s own feature name table', () => {
    const table = new Uint8Array(48);
    table[1] = 9;
    table.set(new TextEncoder().encode('time crystals'), 2);
    const cluster = inCluster(sample({ incompatible: 1n << 9n, extensions: [{ type: 0x6803_f857, data: table }] }));
    expect(messageOf(() => decodeHeader(cluster))).toContain(
      'UNSUPPORTED: incompatible_features has bit 9 (time crystals)',
    );
  });

  it('is not looked at beyond its probe when the magic is missing', () => {
    expect(messageOf(() => probeClusterSize(new Uint8Array(104), 1 << 20))).toMatch(/^NOT_QCOW2: /);
  });
});

describe('header extensions', () => {
  it('are padded to 8 bytes and end with the end mark', () => {
    const bytes = encodeExtensions([{ type: 7, data: Uint8Array.of(1, 2, 3) }]);
    expect([...bytes]).toEqual([0, 0, 0, 7, 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expect(decodeExtensions(bytes, 0, bytes.length)).toEqual([{ type: 7, data: Uint8Array.of(1, 2, 3) }]);
  });

  it('longer than the room they have are refused with the length and the limit', () => {
    const bytes = new Uint8Array(24);
    bytes.set([0, 0, 0, 7, 0, 0, 0, 17]);
    expect(messageOf(() => decodeExtensions(bytes, 0, 24))).toBe(
      'BAD_IMAGE: header extension 0x7 at offset 0 has length 17; only 16 bytes remain for it',
    );
  });
});
