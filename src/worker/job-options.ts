/** What every long job across the worker's boundary may be given. */
import type { Progress } from '../util/progress.js';

export interface JobOptions {
  readonly onProgress?: (progress: Progress) => void;
  /** Ends the job; it rejects with `ABORTED`. */
  readonly signal?: AbortSignal;
}
