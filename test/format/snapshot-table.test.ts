import { describe, expect, it } from 'vitest';
import { decodeSnapshotEntry, encodeSnapshotEntry } from '../../src/format/snapshot-table.js';

/** An entry with `extra` as its extra data, made at 7.5 s, after the VM ran 3 s, with 99 bytes of state. */
function entryWith(extra: readonly bigint[]): Uint8Array {
  const bytes = new Uint8Array(40 + extra.length * 8 + 8);
  const view = new DataView(bytes.buffer);
  view.setUint32(16, 7);
  view.setUint32(20, 500_000_000);
  view.setBigUint64(24, 3_000_000_000n);
  view.setUint32(32, 99);
  view.setUint32(36, extra.length * 8);
  extra.forEach((value, index) => view.setBigUint64(40 + index * 8, value));
  // An id follows, and must not be taken for extra data.
  bytes.fill(0x31, 40 + extra.length * 8);
  return bytes;
}

const COMMON = { date: { seconds: 7, nanoseconds: 500_000_000 }, vmClock: 3_000_000_000n };

describe('an entry of the snapshot table', () => {
  it.each([
    { name: 'none', extra: [], rest: { vmStateBytes: 99, diskSize: null, instructionCount: null } },
    {
      name: 'a state size',
      extra: [2n ** 33n],
      rest: { vmStateBytes: 2 ** 33, diskSize: null, instructionCount: null },
    },
    { name: 'a disk size', extra: [5n, 512n], rest: { vmStateBytes: 5, diskSize: 512, instructionCount: null } },
    { name: 'a count', extra: [5n, 512n, 12n], rest: { vmStateBytes: 5, diskSize: 512, instructionCount: 12n } },
    {
      name: 'no count, and newer fields',
      extra: [5n, 512n, 2n ** 64n - 1n, 77n],
      rest: { vmStateBytes: 5, diskSize: 512, instructionCount: null },
    },
  ])('are read from extra data with: $name', ({ extra, rest }) => {
    expect(decodeSnapshotEntry(entryWith(extra))).toMatchObject({ ...COMMON, ...rest });
  });

  it('are refused where a size passes 2^53', () => {
    expect(() => decodeSnapshotEntry(entryWith([2n ** 60n]))).toThrow(
      'vm_state_size of a snapshot is 0x1000000000000000',
    );
    expect(() => decodeSnapshotEntry(entryWith([0n, 2n ** 60n]))).toThrow('disk_size of a snapshot is');
  });

  it.each([
    { what: 'all it can say', id: '12', name: 'before the upgrade', vmStateBytes: 2 ** 33 + 5, count: 77n },
    { what: 'an empty name and no count', id: '1', name: '', vmStateBytes: 0, count: null },
    { what: 'a name beyond ASCII', id: 'e\u00e9', name: 'f\u00fcr sp\u00e4ter', vmStateBytes: 4096, count: 0n },
  ])('reads as it was written, with $what', ({ id, name, vmStateBytes, count }) => {
    const fields = {
      ...COMMON,
      l1Offset: 0x1_0000,
      l1Entries: 3,
      id,
      name,
      vmStateBytes,
      diskSize: 2 ** 40 + 512,
      instructionCount: count,
    };
    const bytes = encodeSnapshotEntry(fields);
    expect(decodeSnapshotEntry(bytes)).toEqual({ ...fields, byteLength: bytes.length });
    expect(bytes.length % 8).toBe(0);
  });
});
