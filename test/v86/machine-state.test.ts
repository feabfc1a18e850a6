/**
 * What these prove: a state comes back byte for byte, however it changed since the one it shares with; it is read and
 * written in whole pieces; what has not changed lies where it lay; and what does not add up is refused.
 */
import { describe, expect, it } from 'vitest';
import { readMachineState, writeMachineState, type BaseState } from '../../src/v86/machine-state.js';
import { readSavedState } from '../../src/v86/saved-state.js';
import { PIECE_BYTES, RECORD_BYTES } from '../../src/v86/state-map.js';
import { decodeRecord, type StateRecord } from '../../src/v86/state-record.js';
import { SeededRandom, seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { encodeFakeState, encodeStrangeState, type FakeState } from './fake-state.js';
import { MemoryVmState } from './vm-states.js';

const PAGE = 4096;
const CLUSTER = 65536;
const identity = {
  emulator: 'v86',
  disk: { name: 'a', size: 2 ** 30, generation: 7, backingFile: null },
} satisfies Partial<StateRecord>;

interface Saved {
  readonly vmState: MemoryVmState;
  readonly vmStateBytes: number;
  readonly seen: number;
}

async function save(
  state: ArrayBuffer,
  base: BaseState | null = null,
  { clusterSize = CLUSTER, picture = null as Uint8Array | null } = {},
): Promise<Saved> {
  const vmState = new MemoryVmState();
  let seen = 0;
  const target = { clusterSize, write: vmState.write, onBytes: (count: number) => void (seen += count) };
  const vmStateBytes = await writeMachineState({ state: readSavedState(state), picture, identity }, target, base);
  return { vmState, vmStateBytes, seen };
}

async function recordOf({ vmState, vmStateBytes }: Saved): Promise<StateRecord> {
  return decodeRecord(await vmState.read(0, RECORD_BYTES), vmStateBytes);
}

async function expectComesBack(saved: Saved, state: ArrayBuffer): Promise<void> {
  const read = await readMachineState((await recordOf(saved)).state, saved.vmState.read);
  expect(Buffer.compare(Buffer.from(read), Buffer.from(state))).toBe(0);
}

/** A machine with `pages` of RAM, of which about `live` in 16 hold something. */
function someState(random: SeededRandom, pages: number, live: number): FakeState {
  const memory = new Uint8Array(pages * PAGE);
  for (let page = 0; page < pages; page++) if (random.below(16) < live) dirty(random, memory, page);
  return {
    version: 6,
    memory,
    vga: random.bytes(random.pick([65536, 262144])),
    others: [random.bytes(random.below(200)), random.bytes(random.pick([40, 65536, 100_001])), random.bytes(3)],
    disk: ['a', 2 ** 30, random.below(1000)],
  };
}

function dirty(random: SeededRandom, memory: Uint8Array, page: number): void {
  new Uint32Array(memory.buffer, page * PAGE, PAGE / 4).fill(random.next() | 1);
}

/** The machine some time later: a few pages have changed, or many, or have become zero. */
function later(random: SeededRandom, state: FakeState): FakeState {
  const memory = state.memory.slice();
  const pages = memory.length / PAGE;
  for (let count = random.pick([0, 1, pages >> 6, pages >> 3, pages]); count > 0; count--) {
    const page = random.below(pages);
    if (random.oneIn(6)) memory.fill(0, page * PAGE, (page + 1) * PAGE);
    else dirty(random, memory, page);
  }
  return { ...state, memory, disk: ['a', 2 ** 30, random.below(100_000)] };
}

describe('a machine state in VM state', () => {
  it('comes back byte for byte, over chains of states that share with one before', async () => {
    for (let run = 0; run < 12; run++) {
      await withSeed('round trips', seedOfThisRun(run), async (random) => {
        const clusterSize = random.pick([512, 4096, 65536, 262144, 2 ** 21]);
        let state = someState(random, random.pick([32, 100, 700, 1536]), random.pick([1, 8, 15]));
        let base: BaseState | null = null;
        for (let step = 0; step < 8; step++) {
          const encoded = encodeFakeState(state);
          const picture = random.oneIn(3) ? random.bytes(random.below(65536)) : null;
          const saved = await save(encoded, base, { clusterSize, picture });
          await expectComesBack(saved, encoded);
          if (random.oneIn(2)) base = await saved.vmState.base(saved.vmStateBytes);
          state = later(random, state);
        }
      });
    }
  });

  it('is written in whole pieces, each once, the one with the record last', async () => {
    const random = new SeededRandom(seedOfThisRun(77));
    const { vmState, vmStateBytes } = await save(encodeFakeState(someState(random, 2048, 8)));
    expect(vmStateBytes % PIECE_BYTES).toBe(0);
    expect(vmState.pieces.every((offset) => offset % PIECE_BYTES === 0)).toBe(true);
    expect(new Set(vmState.pieces).size).toBe(vmState.pieces.length);
    expect(vmState.pieces.at(-1)).toBe(0);
  });

  it('sends nothing for memory that is zero, but its size counts', async () => {
    const memory = new Uint8Array(32 * 2 ** 20);
    memory[20 * 2 ** 20] = 1;
    const state = { version: 6, memory, vga: new Uint8Array(4 * 2 ** 20), others: [], disk: [] };
    const saved = await save(encodeFakeState(state));
    expect(saved.vmState.pieces).toEqual([22 * 2 ** 20, 0]);
    expect(saved.vmStateBytes).toBe(38 * 2 ** 20);
    expect(saved.seen).toBeGreaterThanOrEqual(encodeFakeState(state).byteLength);
    await expectComesBack(saved, encodeFakeState(state));
  });

  it('of a machine that did next to nothing costs little more than the pages it changed', async () => {
    const random = new SeededRandom(seedOfThisRun(77));
    const first = someState(random, 8192, 12);
    let saved = await save(encodeFakeState(first));
    let state = first;
    const { stored: whole } = saved.vmState.costAgainst(null, CLUSTER);
    for (let step = 0; step < 5; step++) {
      const memory = state.memory.slice();
      // Scattered, as an idle kernel does it: each in a cluster of its own.
      for (let page = 5; page < 8192; page += 100) dirty(random, memory, page);
      state = { ...state, memory };
      const next = await save(encodeFakeState(state), await saved.vmState.base(saved.vmStateBytes));
      await expectComesBack(next, encodeFakeState(state));
      const { own } = next.vmState.costAgainst(saved.vmState, CLUSTER);
      // 82 pages are 6 clusters; and 2 for the head.
      expect(own).toBeLessThanOrEqual(8);
      saved = next;
    }
    expect(whole).toBeGreaterThan(500);
  });

  it('keeps nothing of memory that has become zero, nor of slots that nothing needs', async () => {
    const random = new SeededRandom(seedOfThisRun(78));
    const first = someState(random, 1024, 16);
    let saved = await save(encodeFakeState(first));
    const memory = first.memory.slice();
    for (let page = 0; page < 1024; page += 16) dirty(random, memory, page);
    saved = await save(encodeFakeState({ ...first, memory }), await saved.vmState.base(saved.vmStateBytes));
    const moved = (await recordOf(saved)).state.ram!;
    expect(moved.slots).toBe(64);
    // All but one are what they were at home; and a unit is zero.
    const after = first.memory.slice().fill(0, 0, 16 * PAGE);
    dirty(random, after, 512);
    const last = await save(encodeFakeState({ ...first, memory: after }), await saved.vmState.base(saved.vmStateBytes));
    const { ram } = (await recordOf(last)).state;
    expect(ram!.slots).toBe(1);
    const rest = await last.vmState.read(ram!.slotsOffset + PAGE, PIECE_BYTES - PAGE);
    expect(rest.some((byte) => byte !== 0)).toBe(false);
    const home = await last.vmState.read(ram!.offset, 16 * PAGE);
    expect(home.some((byte) => byte !== 0)).toBe(false);
    await expectComesBack(last, encodeFakeState({ ...first, memory: after }));
  });

  it('takes at most twice its RAM, however long pages change here and there', async () => {
    const random = new SeededRandom(seedOfThisRun(77));
    let state = someState(random, 512, 16);
    let base: BaseState | null = null;
    for (let step = 0; step < 60; step++) {
      const memory = state.memory.slice();
      for (let count = 0; count < 30; count++) dirty(random, memory, random.below(512));
      state = { ...state, memory };
      const saved: Saved = await save(encodeFakeState(state), base);
      const { stored } = saved.vmState.costAgainst(null, PAGE);
      expect(stored * PAGE).toBeLessThan(2 * memory.length + 2 * PIECE_BYTES);
      base = await saved.vmState.base(saved.vmStateBytes);
      if (step % 20 === 19) await expectComesBack(saved, encodeFakeState(state));
    }
  });

  it('puts a buffer of a cluster at the start of one, at the same place every time', async () => {
    const random = new SeededRandom(seedOfThisRun(77));
    const state = someState(random, 64, 8);
    const one = await recordOf(await save(encodeFakeState(state)));
    const other = await recordOf(await save(encodeFakeState({ ...state, disk: ['a', 2 ** 30, 123_456_789] })));
    const large = ({ state: { parts } }: StateRecord) => parts.filter(({ length }) => length >= CLUSTER);
    expect(large(one).length).toBeGreaterThan(0);
    expect(large(one).map(({ offset }) => offset % CLUSTER)).toEqual(large(one).map(() => 0));
    expect(large(other).map(({ offset }) => offset)).toEqual(large(one).map(({ offset }) => offset));
    expect(other.state.ram?.offset).toBe(one.state.ram?.offset);
  });

  it('is stored as a whole where its RAM is not found', async () => {
    const state = encodeStrangeState(6, new SeededRandom(seedOfThisRun(77)).bytes(3 * 2 ** 20));
    const saved = await save(state);
    expect((await recordOf(saved)).state.ram).toBeNull();
    await expectComesBack(saved, state);
  });

  it('goes on without a base whose RAM is of another size', async () => {
    const random = new SeededRandom(seedOfThisRun(77));
    const small = await save(encodeFakeState(someState(random, 64, 8)));
    const state = encodeFakeState(someState(random, 128, 8));
    await expectComesBack(await save(state, await small.vmState.base(small.vmStateBytes)), state);
  });
});

describe('a damaged machine state', () => {
  it('is refused whichever byte of it was flipped', async () => {
    const random = new SeededRandom(seedOfThisRun(77));
    const memory = new Uint8Array(600 * PAGE);
    for (let page = 0; page < 600; page++) dirty(random, memory, page);
    const first = { version: 6, memory, vga: random.bytes(65536), others: [random.bytes(9)], disk: [] };
    const base = await save(encodeFakeState(first));
    const second = { ...first, memory: memory.slice().fill(5, 0, 9) };
    const saved = await save(encodeFakeState(second), await base.vmState.base(base.vmStateBytes));
    const { state } = await recordOf(saved);
    const { ram, parts } = state;
    expect(ram?.slots).toBe(1);
    const places = [
      ram!.offset + 4 * PAGE,
      ram!.slotsOffset,
      ram!.slotListOffset,
      ...parts.map(({ offset }) => offset),
    ];
    for (const place of places) {
      saved.vmState.bytes[place]! ^= 4;
      await expect(readMachineState(state, saved.vmState.read)).rejects.toMatchObject({ code: 'BAD_IMAGE' });
      saved.vmState.bytes[place]! ^= 4;
    }
    await expectComesBack(saved, encodeFakeState(second));
  });
});
