/**
 * Seeing that a worker has ended. A worker that is terminated, or ends itself, fires no event at its page; but the lock
 * that it holds for all its life becomes free, and the page waits for that.
 */
import { lockReleased } from './web-locks.js';

/** The lock that the worker of this name holds. */
export function livenessLock(workerName: string): string {
  return `qcow2-wasm:worker:${workerName}`;
}

/** Calls `ended` once the worker, which must hold its lock already, is no more. `signal` ends the watch. */
export async function watchWorker(workerName: string, signal: AbortSignal, ended: () => void): Promise<void> {
  if ((await lockReleased(livenessLock(workerName), signal)) === 'released') ended();
}
