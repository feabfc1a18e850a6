import { describe, expect, it } from 'vitest';
import { readSavedState } from '../../src/v86/saved-state.js';
import { encodeFakeState, encodeStrangeState, FAKE_DEVICES, type FakeState } from './fake-state.js';

function fakeState(changes: Partial<FakeState> = {}): FakeState {
  const memory = new Uint8Array(64 * 4096);
  memory.fill(1, 3 * 4096, 5 * 4096);
  memory[63 * 4096] = 9;
  return {
    version: 6,
    memory,
    vga: new Uint8Array(65536).fill(2),
    others: [new Uint8Array(5), new Uint8Array(100)],
    disk: ['a', 4096, 1],
    ...changes,
  };
}

describe('a state of v86', () => {
  it('tells its version, the sizes of RAM and of the screen, and its devices', () => {
    expect(readSavedState(encodeFakeState(fakeState())).shape).toEqual({
      stateVersion: 6,
      memoryBytes: 64 * 4096,
      vgaBytes: 65536,
      devices: FAKE_DEVICES,
    });
  });

  it('is found to have RAM as packed pages and a bitmap', () => {
    const { bytes, ram, buffers } = readSavedState(encodeFakeState(fakeState()));
    expect(ram?.packed.length).toBe(3 * 4096);
    expect([...bytes.subarray(ram!.bitmap.at, ram!.bitmap.at + ram!.bitmap.length)]).toEqual([
      24, 0, 0, 0, 0, 0, 0, 128,
    ]);
    expect(bytes[ram!.packed.at + 2 * 4096]).toBe(9);
    expect(buffers.map(({ length }) => length)).toEqual([65536, 5, 100, 3 * 4096, 8]);
  });

  it('is a whole without RAM if the bitmap is not where it should be, or does not fit', () => {
    expect(readSavedState(encodeStrangeState(6, new Uint8Array(8192))).ram).toBeNull();
    const bytes = new Uint8Array(encodeFakeState(fakeState()));
    const { ram } = readSavedState(bytes.buffer);
    bytes[ram!.bitmap.at]! ^= 1;
    expect(readSavedState(bytes.buffer).ram).toBeNull();
  });

  it('is refused if it does not begin like one, or is cut', () => {
    const whole = encodeFakeState(fakeState());
    const refused = { code: 'V86_SEAM' };
    expect(() => readSavedState(new ArrayBuffer(0))).toThrow(expect.objectContaining(refused));
    expect(() => readSavedState(new ArrayBuffer(64))).toThrow(expect.objectContaining(refused));
    expect(() => readSavedState(whole.slice(0, -4))).toThrow(expect.objectContaining(refused));
    new Int32Array(whole, 0, 4)[3] = 2 ** 31 - 1;
    expect(() => readSavedState(whole)).toThrow(expect.objectContaining(refused));
  });

  it('has no parts, but is none the worse, if its JSON can not be read or lists buffers outside of it', () => {
    const whole = encodeFakeState(fakeState());
    const json = new Uint8Array(whole, 16);
    const from = (text: string, to: string): ArrayBuffer => {
      const copy = whole.slice();
      const at = Buffer.from(json).indexOf(text);
      new Uint8Array(copy, 16).set(new TextEncoder().encode(to), at);
      return copy;
    };
    expect(readSavedState(from('{"buffer_infos"', '["buffer_infos"')).buffers).toEqual([]);
    expect(readSavedState(from('"length":65536', '"length":99999')).buffers).toEqual([]);
    expect(readSavedState(from('"offset":0', '"offset":9')).buffers).toEqual([]);
  });
});
