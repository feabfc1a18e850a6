import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../src/index.js';
import { describeWritableStorage } from './describe-conformance.js';

describeWritableStorage('memory', () => new MemoryStorage());

describe('memory storage', () => {
  it('starts with the bytes it is given', () => {
    const storage = new MemoryStorage(Uint8Array.of(1, 2, 3));
    const target = new Uint8Array(4).fill(9);
    storage.read(0, target);
    expect([...target]).toEqual([1, 2, 3, 0]);
    expect(storage.size).toBe(3);
  });

  it('gives its content as a copy of exactly its size', () => {
    const storage = new MemoryStorage();
    storage.write(0, Uint8Array.of(1, 2, 3));
    const bytes = storage.toBytes();
    expect([...bytes]).toEqual([1, 2, 3]);
    bytes.fill(9);
    expect([...storage.toBytes()]).toEqual([1, 2, 3]);
  });

  it('reports a size that no memory can hold as NO_SPACE, not as a RangeError', () => {
    const storage = new MemoryStorage();
    expect(() => storage.truncate(2 ** 52)).toThrow(expect.objectContaining({ code: 'NO_SPACE' }));
    expect(storage.size).toBe(0);
  });

  it('reads zeroes where a hole was punched, and keeps its size', () => {
    const storage = new MemoryStorage(Uint8Array.of(1, 2, 3, 4));
    storage.punchHole(1, 2);
    expect([...storage.toBytes()]).toEqual([1, 0, 0, 4]);
    storage.punchHole(3, 100);
    expect([...storage.toBytes()]).toEqual([1, 0, 0, 0]);
  });
});
