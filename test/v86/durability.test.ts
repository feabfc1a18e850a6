import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DurabilityPolicy } from '../../src/v86/durability.js';

describe('the durability policy', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  const times = { quietMilliseconds: 100, maximumMilliseconds: 1000, page: {} };

  it('flushes once, a short time after the last write of a burst', async () => {
    const flush = vi.fn(() => Promise.resolve());
    const policy = new DurabilityPolicy(flush, times);
    for (let count = 0; count < 5; count++) {
      policy.noteWrite();
      await vi.advanceTimersByTimeAsync(50);
    }
    expect(flush).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(100);
    expect(flush).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(5000);
    expect(flush).toHaveBeenCalledTimes(1);
  });

  it('flushes at the latest after the maximum, however steadily the guest writes', async () => {
    const flush = vi.fn(() => Promise.resolve());
    const policy = new DurabilityPolicy(flush, times);
    for (let milliseconds = 0; milliseconds < 3050; milliseconds += 50) {
      policy.noteWrite();
      await vi.advanceTimersByTimeAsync(50);
    }
    expect(flush.mock.calls.length).toBeGreaterThanOrEqual(2);
    expect(flush.mock.calls.length).toBeLessThanOrEqual(3);
    policy.dispose();
  });

  it('does not start a second flush while one is under way, and flushes what came meanwhile', async () => {
    let finish = (): void => undefined;
    const flush = vi.fn(() => new Promise<void>((resolve) => (finish = resolve)));
    const policy = new DurabilityPolicy(flush, times);
    policy.noteWrite();
    await vi.advanceTimersByTimeAsync(100);
    policy.noteWrite();
    await vi.advanceTimersByTimeAsync(500);
    expect(flush).toHaveBeenCalledTimes(1);
    finish();
    await vi.advanceTimersByTimeAsync(200);
    expect(flush).toHaveBeenCalledTimes(2);
    policy.dispose();
  });

  it('flushes when the page is hidden or left, if there is something to flush', async () => {
    const flush = vi.fn(() => Promise.resolve());
    const document = Object.assign(new EventTarget(), { visibilityState: 'hidden' });
    const window = new EventTarget();
    const policy = new DurabilityPolicy(flush, { ...times, page: { document, window } });
    document.dispatchEvent(new Event('visibilitychange'));
    expect(flush).not.toHaveBeenCalled();
    policy.noteWrite();
    document.dispatchEvent(new Event('visibilitychange'));
    expect(flush).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(0);
    policy.noteWrite();
    window.dispatchEvent(new Event('pagehide'));
    expect(flush).toHaveBeenCalledTimes(2);
    policy.dispose();
  });

  it('flushes at once when the page is left while a flush is under way, whose turn may never have come', async () => {
    const flush = vi.fn(() => new Promise<void>(() => undefined));
    const flushAtOnce = vi.fn(() => Promise.resolve());
    const window = new EventTarget();
    const policy = new DurabilityPolicy(flush, { ...times, page: { window } }, flushAtOnce);
    policy.noteWrite();
    await vi.advanceTimersByTimeAsync(100);
    expect(flush).toHaveBeenCalledTimes(1);
    window.dispatchEvent(new Event('pagehide'));
    expect(flushAtOnce).toHaveBeenCalledTimes(1);
    policy.noteWrite();
    window.dispatchEvent(new Event('pagehide'));
    expect(flushAtOnce).toHaveBeenCalledTimes(2);
    expect(flush).toHaveBeenCalledTimes(1);
    policy.dispose();
  });

  it('flushes as usual in a page that was hidden and lives on', async () => {
    const flush = vi.fn(() => Promise.resolve());
    const flushAtOnce = vi.fn(() => Promise.reject(new Error('no')));
    const document = Object.assign(new EventTarget(), { visibilityState: 'hidden' });
    const policy = new DurabilityPolicy(flush, { ...times, page: { document } }, flushAtOnce);
    policy.noteWrite();
    document.dispatchEvent(new Event('visibilitychange'));
    expect(flushAtOnce).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(100);
    expect(flush).toHaveBeenCalledTimes(1);
    policy.dispose();
  });

  it('survives a failing flush and tries again with the next write', async () => {
    const flush = vi.fn(() => Promise.reject(new Error('no')));
    const policy = new DurabilityPolicy(flush, times);
    policy.noteWrite();
    await vi.advanceTimersByTimeAsync(3000);
    expect(flush).toHaveBeenCalledTimes(1);
    policy.noteWrite();
    await vi.advanceTimersByTimeAsync(200);
    expect(flush).toHaveBeenCalledTimes(2);
    await expect(policy.flushNow()).rejects.toThrow('no');
    policy.dispose();
  });
});
