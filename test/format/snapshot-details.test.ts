import { describe, expect, it } from 'vitest';
import { decodeSnapshotDetails } from '../../src/format/snapshot-details.js';

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

describe('the details of a snapshot', () => {
  it.each([
    { name: 'none', extra: [], rest: { vmStateBytes: 99, diskSize: 4096, instructionCount: null } },
    {
      name: 'a state size',
      extra: [2n ** 33n],
      rest: { vmStateBytes: 2 ** 33, diskSize: 4096, instructionCount: null },
    },
    { name: 'a disk size', extra: [5n, 512n], rest: { vmStateBytes: 5, diskSize: 512, instructionCount: null } },
    { name: 'a count', extra: [5n, 512n, 12n], rest: { vmStateBytes: 5, diskSize: 512, instructionCount: 12n } },
    {
      name: 'no count, and newer fields',
      extra: [5n, 512n, 2n ** 64n - 1n, 77n],
      rest: { vmStateBytes: 5, diskSize: 512, instructionCount: null },
    },
  ])('are read from extra data with: $name', ({ extra, rest }) => {
    expect(decodeSnapshotDetails(entryWith(extra), 4096)).toEqual({ ...COMMON, ...rest });
  });

  it('are refused where a size passes 2^53', () => {
    expect(() => decodeSnapshotDetails(entryWith([2n ** 60n]), 4096)).toThrow('a VM state size is 0x1000000000000000');
    expect(() => decodeSnapshotDetails(entryWith([0n, 2n ** 60n]), 4096)).toThrow('the disk size of a snapshot is');
  });
});
