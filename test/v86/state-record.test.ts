/** Records that come out of images which anybody may have made: each is taken as it was written, or refused with a reason. */
import { describe, expect, it } from 'vitest';
import { isQcow2Error } from '../../src/errors.js';
import { readMachineState } from '../../src/v86/machine-state.js';
import { decodeRecord, encodeRecord, type StateRecord } from '../../src/v86/state-record.js';
import { murmurHash32 } from '../../src/util/murmur-hash.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';

const VM_STATE_BYTES = 10 * 2 ** 20;

const RECORD: StateRecord = {
  emulator: 'v86',
  machine: { stateVersion: 6, memoryBytes: 2 ** 20, vgaBytes: 65536, devices: [47, 52, 85] },
  disk: { name: 'disks/ä.qcow2', size: 2 ** 40, generation: 12, backingFile: 'base.qcow2' },
  picture: { offset: 16384, length: 100, checksum: 0xffffffff },
  state: {
    length: 70_000,
    checksum: 1,
    parts: [
      { at: 0, length: 800, offset: 16484 },
      { at: 4896, length: 65_104, offset: 4 * 2 ** 20 },
    ],
    ram: {
      bytes: 2 ** 20,
      offset: 2 * 2 ** 20,
      packedAt: 800,
      packedBytes: 4096,
      bitmapAt: 700,
      slotListOffset: 17_284,
      slots: 3,
      slotsOffset: 6 * 2 ** 20,
    },
  },
};

/** A record with whatever JSON, and a checksum that fits it. */
function recordWith(json: string): Uint8Array {
  const bytes = new TextEncoder().encode(json);
  const whole = new Uint8Array(20 + bytes.length);
  whole.set(encodeRecord(RECORD).subarray(0, 12));
  const view = new DataView(whole.buffer);
  view.setUint32(12, bytes.length);
  view.setUint32(16, murmurHash32(bytes));
  whole.set(bytes, 20);
  return whole;
}

function refusalOf(head: Uint8Array, vmStateBytes = VM_STATE_BYTES): { code: string; message: string } {
  try {
    decodeRecord(head, vmStateBytes);
  } catch (error) {
    if (isQcow2Error(error)) return { code: error.code, message: error.message };
    throw error;
  }
  return { code: 'none', message: '' };
}

describe('the record of a machine state', () => {
  it('is read as it was written', () => {
    expect(decodeRecord(encodeRecord(RECORD), VM_STATE_BYTES)).toEqual(RECORD);
    const bare = { ...RECORD, picture: null, disk: { ...RECORD.disk, backingFile: null } };
    expect(decodeRecord(encodeRecord(bare), VM_STATE_BYTES)).toEqual(bare);
  });

  it('of another program is told apart, however short it is', () => {
    const ofQemu = new TextEncoder().encode('QEVM\0\0\0\x03 and so on, for some more bytes than a header has');
    for (const head of [ofQemu, ofQemu.subarray(0, 4), new Uint8Array(0), encodeRecord(RECORD).subarray(0, 19)]) {
      expect(refusalOf(head)).toMatchObject({
        code: 'UNSUPPORTED',
        message: expect.stringContaining('another program'),
      });
    }
  });

  it('of a later version is refused with both versions', () => {
    const later = encodeRecord(RECORD);
    new DataView(later.buffer).setUint32(8, 2);
    expect(refusalOf(later)).toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(/version 2; 1 is known/),
    });
  });

  it('is refused when a byte of it is flipped', () => {
    const bytes = encodeRecord(RECORD);
    for (let at = 12; at < bytes.length; at++) {
      bytes[at]! ^= 1;
      expect(refusalOf(bytes).code).toBe('BAD_IMAGE');
      bytes[at]! ^= 1;
    }
  });

  it('that has no room is not written', () => {
    const devices = Array.from({ length: 256 }, () => 100);
    const disk = { ...RECORD.disk, name: 'x'.repeat(4096), backingFile: 'ä'.repeat(4096) };
    expect(() => encodeRecord({ ...RECORD, disk, machine: { ...RECORD.machine, devices } })).not.toThrow();
    const emulator = 'e'.repeat(4096);
    expect(() => encodeRecord({ ...RECORD, emulator, disk })).toThrow('the length of its record');
  });

  it('that could not be read is not written', () => {
    const state = { ...RECORD.state, length: 2 ** 31, parts: [{ at: 0, length: 2 ** 31 - 4096, offset: 0 }] };
    expect(() => encodeRecord({ ...RECORD, state })).toThrow(expect.objectContaining({ code: 'BAD_IMAGE' }));
  });
});

describe('a record that somebody made up', () => {
  const { state, machine } = RECORD;
  const { ram, parts } = state;
  const manyParts = (count: number, length: number) =>
    Array.from({ length: count }, () => ({ at: 0, length, offset: 0 }));
  const cases: [string, object][] = [
    ['parts that do not fill the state', { state: { ...state, length: 80_000 } }],
    ['a part behind the end of the state', { state: { ...state, parts: [parts[0], { ...parts[1], at: 4897 }] } }],
    ['the same part many times', { state: { ...state, parts: manyParts(100, 60_000) } }],
    ['more parts than there can be', { state: { ...state, parts: manyParts(1000, 0) } }],
    [
      'a state behind the end of the VM state',
      { state: { ...state, ram: { ...ram, slotsOffset: 8 * 2 ** 20, slots: 256, bytes: 2 ** 20, offset: 2 ** 30 } } },
    ],
    ['a huge state', { state: { ...state, length: 2 ** 40, parts: [{ at: 0, length: 2 ** 40 - 4096, offset: 0 }] } }],
    ['RAM of another size than the machine', { machine: { ...machine, memoryBytes: 2 ** 21 } }],
    [
      'RAM that is no whole pages',
      { machine: { ...machine, memoryBytes: 1000 }, state: { ...state, ram: { ...ram, bytes: 1000 } } },
    ],
    ['RAM at no piece', { state: { ...state, ram: { ...ram, offset: 4096 } } }],
    ['more slots than pages', { state: { ...state, ram: { ...ram, slots: 2 ** 20 } } }],
    ['a picture behind the end', { picture: { offset: VM_STATE_BYTES, length: 1, checksum: 0 } }],
    ['a huge picture', { picture: { offset: 0, length: 2 ** 30, checksum: 0 } }],
    ['a negative length', { state: { ...state, length: -1 } }],
    ['half a byte', { state: { ...state, length: 0.5 } }],
    ['a number beyond all', { disk: { ...RECORD.disk, size: 1e300 } }],
    ['a name without end', { disk: { ...RECORD.disk, name: 'x'.repeat(100_000) } }],
    ['a name that can not be shown', { emulator: { toString: 1 } }],
    ['no machine', { machine: undefined }],
    ['a list for an object', { disk: [] }],
  ];
  it.each(cases)('with %s is refused', (_, change) => {
    expect(refusalOf(recordWith(JSON.stringify({ ...RECORD, ...change }))).code).toBe('BAD_IMAGE');
  });

  it.each(['', 'null', '[]', '7', '"v86"', '{', '{}', '['.repeat(50_000)])('whose JSON is %.10j is refused', (json) => {
    expect(refusalOf(recordWith(json)).code).toBe('BAD_IMAGE');
  });

  it('with any values in any places is refused, or read within its bounds', async () => {
    let taken = 0;
    for (let run = 0; run < 3000; run++) {
      await withSeed('made-up records', seedOfThisRun(run), async (random) => {
        const value = mutate(random, structuredClone(RECORD) as unknown);
        const head = recordWith(JSON.stringify(value) ?? '');
        if (refusalOf(head).code !== 'none') return;
        taken++;
        await expectBounded(decodeRecord(head, VM_STATE_BYTES));
      });
    }
    expect(taken).toBeGreaterThan(0);
  });
});

/** Reads a state out of nothing but zeroes: it must end soon, ask for nothing outside, and fail with an error of ours. */
async function expectBounded({ state }: StateRecord): Promise<void> {
  let reads = 0;
  const read = async (offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> => {
    expect(offset + length).toBeLessThanOrEqual(VM_STATE_BYTES + 2 * 2 ** 20);
    expect(++reads).toBeLessThan(1000);
    return new Uint8Array(length);
  };
  const outcome = await readMachineState(state, read).then(
    () => null,
    (error: unknown) => error,
  );
  expect(outcome === null || isQcow2Error(outcome)).toBe(true);
}

const STRANGE: readonly unknown[] = [
  null,
  -1,
  0,
  1,
  0.5,
  4096,
  2 ** 21,
  2 ** 31,
  2 ** 53,
  1e308,
  '',
  'x',
  [],
  {},
  true,
];

/** Puts a strange value somewhere. */
function mutate(random: SeededRandom, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || random.oneIn(12)) return random.pick(STRANGE);
  const fields = value as Record<string, unknown>;
  const names = Object.keys(fields);
  if (names.length === 0) return random.pick(STRANGE);
  const name = random.pick(names);
  return Array.isArray(value)
    ? value.map((entry, index) => (String(index) === name ? mutate(random, entry) : (entry as unknown)))
    : { ...fields, [name]: mutate(random, fields[name]) };
}
