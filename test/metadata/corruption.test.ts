import { describe, expect, it } from 'vitest';
import { createImage } from '../../src/image/create.js';
import { Corruption, type CorruptionEvent } from '../../src/metadata/corruption.js';
import { HeaderState, readHeader } from '../../src/metadata/header-state.js';
import { GuardedStorage } from '../../src/storage/guarded.js';
import { FailingStorage } from '../storage/failing.js';

function corruptionOf(options: { version?: 2 | 3; writable?: boolean; armed?: boolean } = {}) {
  const { version = 3, writable = true, armed = true } = options;
  const inner = new FailingStorage();
  createImage(inner, { size: 1 << 20, version });
  const storage = new GuardedStorage(inner);
  const header = new HeaderState(storage, readHeader(storage));
  const events: CorruptionEvent[] = [];
  const corruption = new Corruption({
    header,
    writable,
    seal: (reason) => storage.seal(reason),
    flush: () => storage.flush(),
    onCorruption: (event) => events.push(event),
  });
  if (armed) corruption.arm();
  const flushes = inner.calls.flush;
  return {
    ...{ inner, storage, header, corruption, events },
    isMarked: () => (readHeader(inner).incompatible & 2n) !== 0n,
    flushes: () => inner.calls.flush - flushes,
  };
}

const FINDING = { message: 'the field is 7; it must be 8', offset: 0x1000, size: 8 };

describe('corruption found in use', () => {
  it('marks a writable image, stably, tells of it, and makes the image and its storage unusable', () => {
    const { storage, corruption, events, isMarked, flushes } = corruptionOf();
    expect(() => corruption.checkUsable()).not.toThrow();
    const error = corruption.found(FINDING);
    expect(error).toMatchObject({ code: 'CORRUPT', message: FINDING.message });
    expect(isMarked()).toBe(true);
    expect(flushes()).toBe(1);
    expect(events).toEqual([{ fatal: true, ...FINDING }]);
    expect(() => corruption.checkUsable()).toThrow(
      expect.objectContaining({ code: 'CORRUPT', message: expect.stringContaining(FINDING.message) as string }),
    );
    expect(() => storage.write(0, Uint8Array.of(1))).toThrow(
      expect.objectContaining({ code: 'POISONED', cause: error }),
    );
  });

  it('is told once: a second finding changes and tells nothing', () => {
    const { corruption, events, flushes } = corruptionOf();
    corruption.found(FINDING);
    expect(corruption.found({ message: 'another' })).toMatchObject({ code: 'CORRUPT', message: 'another' });
    corruption.report({ message: 'a third' });
    expect(events).toHaveLength(1);
    expect(flushes()).toBe(1);
  });

  it('leaves a version 2 image, which has no bit for it, as it is, and makes it unusable all the same', () => {
    const { inner, corruption, events } = corruptionOf({ version: 2 });
    const before = inner.inner.toBytes();
    corruption.found(FINDING);
    expect(inner.inner.toBytes()).toEqual(before);
    expect(events).toEqual([{ fatal: true, ...FINDING }]);
    expect(corruption.isFatal).toBe(true);
  });

  it('is only reported for a read-only image, once, and the image stays usable', () => {
    const { corruption, events, isMarked } = corruptionOf({ writable: false });
    expect(corruption.found(FINDING).code).toBe('CORRUPT');
    corruption.found(FINDING);
    expect(events).toEqual([{ fatal: false, ...FINDING }]);
    expect(isMarked()).toBe(false);
    expect(() => corruption.checkUsable()).not.toThrow();
  });

  it('that is harmless is reported, and does not hide a fatal one that comes later', () => {
    const { corruption, events, isMarked } = corruptionOf();
    corruption.report(FINDING);
    corruption.report(FINDING);
    expect(isMarked()).toBe(false);
    corruption.found({ message: 'fatal' });
    expect(events.map(({ fatal, message }) => [fatal, message])).toEqual([
      [false, FINDING.message],
      [true, 'fatal'],
    ]);
  });

  it('is only thrown while the image is being opened', () => {
    const { corruption, events, isMarked } = corruptionOf({ armed: false });
    expect(corruption.found(FINDING).code).toBe('CORRUPT');
    corruption.report(FINDING);
    expect(events).toEqual([]);
    expect(isMarked()).toBe(false);
    expect(corruption.isFatal).toBe(false);
  });

  it('makes the image unusable also when the mark can not be written, and says so', () => {
    const { inner, storage, corruption } = corruptionOf();
    const cause = new Error('the medium is gone');
    inner.failOn('write', cause);
    const error = corruption.found(FINDING);
    expect(error.message).toMatch(/could not be marked/);
    expect(error.cause).toMatchObject({ code: 'IO', cause });
    expect(corruption.isFatal).toBe(true);
    expect(storage.poisoned).toBe(true);
  });
});
