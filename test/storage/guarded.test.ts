import { describe, expect, it } from 'vitest';
import { GuardedStorage, MemoryStorage, Qcow2Error } from '../../src/index.js';
import { describeWritableStorage } from './describe-conformance.js';
import { FailingStorage, type StorageCall } from './failing.js';
import { RemoteStorage } from './remote.js';

describeWritableStorage('a memory storage behind the guard', () => new GuardedStorage(new MemoryStorage()));

function withCode(code: string): unknown {
  return expect.objectContaining({ name: 'Qcow2Error', code });
}

const CHANGES: Record<Exclude<StorageCall, 'read'>, (storage: GuardedStorage) => void> = {
  write: (storage) => storage.write(0, Uint8Array.of(1)),
  truncate: (storage) => storage.truncate(100),
  flush: (storage) => storage.flush(),
};

describe('a guarded storage', () => {
  for (const failing of ['write', 'truncate', 'flush'] as const) {
    it(`refuses every later change with POISONED after a failed ${failing}, and reads on`, () => {
      const inner = new FailingStorage(Uint8Array.of(5, 6));
      const storage = new GuardedStorage(inner);
      storage.write(1, Uint8Array.of(7));
      const cause = new Error('the medium is gone');
      inner.failOn(failing, cause);

      expect(() => CHANGES[failing](storage)).toThrow(expect.objectContaining({ code: 'IO', cause }));
      inner.heal();
      const before = inner.inner.toBytes();
      for (const change of Object.values(CHANGES)) expect(() => change(storage)).toThrow(withCode('POISONED'));

      expect(inner.inner.toBytes()).toEqual(before);
      const target = new Uint8Array(2);
      storage.read(0, target);
      expect([...target]).toEqual([5, 7]);
    });
  }

  it('passes a Qcow2Error of the storage on as it is', () => {
    const inner = new FailingStorage();
    const storage = new GuardedStorage(inner);
    const full = new Qcow2Error('NO_SPACE', 'no room');
    inner.failOn('write', full);
    expect(() => storage.write(0, Uint8Array.of(1))).toThrow(full);
    expect(() => storage.write(0, Uint8Array.of(1))).toThrow(
      expect.objectContaining({ code: 'POISONED', cause: full }),
    );
  });

  it('is not poisoned by a failed read', () => {
    const inner = new FailingStorage();
    const storage = new GuardedStorage(inner);
    inner.failOn('read', new Error('a bad sector'));
    expect(() => storage.read(0, new Uint8Array(1))).toThrow(withCode('IO'));
    storage.write(0, Uint8Array.of(1));
    storage.flush();
    expect(inner.calls.flush).toBe(1);
  });

  it('lets NotResident through, unchanged and without poison', async () => {
    const remote = new RemoteStorage(Uint8Array.of(1, 2, 3), { chunkBytes: 2 });
    const storage = new GuardedStorage(remote);
    expect(() => storage.read(0, new Uint8Array(1))).toThrow(expect.objectContaining({ name: 'NotResident' }));
    expect(storage.poisoned).toBe(false);
  });

  it('asks the medium for a flush only when something was written since the last', () => {
    const inner = new FailingStorage();
    const storage = new GuardedStorage(inner);
    storage.flush();
    storage.write(0, Uint8Array.of(1));
    storage.flush();
    storage.flush();
    storage.truncate(9);
    storage.flush();
    expect(inner.calls.flush).toBe(2);
  });

  it('answers CLOSED after its close, and closes the storage below once', () => {
    const inner = new FailingStorage();
    const storage = new GuardedStorage(inner);
    storage.close();
    storage.close();
    expect(inner.calls.close).toBe(1);
    expect(() => storage.read(0, new Uint8Array(1))).toThrow(withCode('CLOSED'));
    for (const change of Object.values(CHANGES)) expect(() => change(storage)).toThrow(withCode('CLOSED'));
  });

  it('that was sealed refuses every change with the reason as cause, and reads on', () => {
    const inner = new FailingStorage(Uint8Array.of(5, 6));
    const storage = new GuardedStorage(inner);
    const reason = new Qcow2Error('CORRUPT', 'two tables in one place');
    storage.seal(reason);
    for (const change of Object.values(CHANGES)) {
      expect(() => change(storage)).toThrow(expect.objectContaining({ code: 'POISONED', cause: reason }));
    }
    storage.punchHole(0, 2);
    const target = new Uint8Array(2);
    storage.read(0, target);
    expect([...target]).toEqual([5, 6]);
  });

  it('passes holes on until one fails, which does no harm', () => {
    const holes: number[] = [];
    const inner = Object.assign(new FailingStorage(new Uint8Array(100)), {
      punchHole: (offset: number) => {
        holes.push(offset);
        if (offset === 20) throw new Error('no holes here');
      },
    });
    const storage = new GuardedStorage(inner);
    for (const offset of [10, 20, 30]) storage.punchHole(offset, 5);
    expect(holes).toEqual([10, 20]);
    storage.write(0, Uint8Array.of(1));
    storage.flush();
    expect(storage.poisoned).toBe(false);
  });

  it('takes a storage without holes as it is', () => {
    const storage = new GuardedStorage(new FailingStorage(Uint8Array.of(7)));
    expect(() => storage.punchHole(0, 1)).not.toThrow();
    expect(() => storage.refresh()).not.toThrow();
  });
});
