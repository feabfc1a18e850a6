/**
 * Web Locks: names that the tabs and workers of one origin agree on. The browser releases a lock when its holder ends,
 * however it ends; this is what makes them fit to name the writer of a disk, and to see that a worker lives.
 */
import type { Claim } from './image-files.js';

/**
 * Takes the lock, and keeps it until `release()` or the end of this thread.
 * @param waitMilliseconds how long to wait for its holder; 0 not at all, Infinity until `signal` is aborted.
 * @returns null when it is held by somebody else.
 */
export function takeLock(
  name: string,
  mode: LockMode,
  waitMilliseconds: number,
  signal?: AbortSignal,
): Promise<Claim | null> {
  const options: LockOptions = waitMilliseconds === 0 ? { mode, ifAvailable: true } : { mode };
  const patience =
    waitMilliseconds === 0 || waitMilliseconds === Infinity ? signal : AbortSignal.timeout(waitMilliseconds);
  if (patience !== undefined) options.signal = patience;
  return new Promise((resolve, reject) => {
    const granted = (lock: Lock | null): Promise<void> | undefined => {
      if (lock === null) {
        resolve(null);
        return undefined;
      }
      return new Promise<void>((release) => resolve({ release }));
    };
    navigator.locks.request(name, options, granted).catch((error: unknown) => {
      if (patience?.aborted) resolve(null);
      else reject(error);
    });
  });
}

/**
 * Resolves when nobody holds the lock in a way that keeps out who wants it in `mode`, or when `signal` is aborted, with which of the two it
 * was.
 */
export async function lockReleased(
  name: string,
  signal: AbortSignal,
  mode: LockMode = 'shared',
): Promise<'released' | 'aborted'> {
  try {
    await navigator.locks.request(name, { mode, signal }, () => undefined);
    return 'released';
  } catch (error) {
    if (signal.aborted) return 'aborted';
    throw error;
  }
}
