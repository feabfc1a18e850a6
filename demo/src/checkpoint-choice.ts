/** How often the visitor wants a checkpoint: kept from visit to visit; never, unless chosen. */

const STORAGE_KEY = 'qcow2-wasm-demo checkpoint seconds';

/** How many are kept; older ones go. */
export const CHECKPOINTS_KEPT = 5;

/** Seconds between two, or null for none. */
export type CheckpointSeconds = number | null;

export function checkpointChoice(): CheckpointSeconds {
  const seconds = Number(localStorage.getItem(STORAGE_KEY));
  return seconds > 0 ? seconds : null;
}

export function storeCheckpointChoice(seconds: CheckpointSeconds): void {
  if (seconds === null) localStorage.removeItem(STORAGE_KEY);
  else localStorage.setItem(STORAGE_KEY, String(seconds));
}
