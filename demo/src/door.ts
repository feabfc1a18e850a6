/**
 * The way in for images: one lane for all tabs, because what comes in lies under one name until it is a disk. Who has to wait is told so: an
 * image takes minutes, and one that asks for its passphrase as long as somebody thinks, in whichever tab.
 */
import { Qcow2Error } from 'qcow2-wasm/opfs';
import { showWaitingAtDoor } from './tab-notice.js';

/** Held by the tab that takes an image in. */
const DOOR_LOCK = 'qcow2-wasm-demo incoming';

/**
 * Runs `job`, which takes an image in, while no other tab does: until it ends, what comes in is this tab's. `signal` ends the waiting, which
 * rejects with `ABORTED`.
 */
export async function oneAtTheDoor<T>(job: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  const { locks } = navigator;
  const done = await locks.request(DOOR_LOCK, { ifAvailable: true }, async (lock) =>
    lock === null ? null : { result: await job() },
  );
  if (done !== null) return done.result;
  const stopShowing = showWaitingAtDoor();
  try {
    return await locks.request(DOOR_LOCK, signal ? { signal } : {}, () => {
      stopShowing();
      return job();
    });
  } catch (error) {
    stopShowing();
    if (!(error instanceof DOMException) || error.name !== 'AbortError') throw error;
    throw new Qcow2Error('ABORTED', 'waiting for another image to come in was given up', { cause: error });
  }
}

/** Runs `job` unless something is on its way in. */
export async function ifNobodyAtTheDoor(job: () => Promise<void>): Promise<void> {
  await navigator.locks.request(DOOR_LOCK, { ifAvailable: true }, async (lock) => {
    if (lock !== null) await job();
  });
}
