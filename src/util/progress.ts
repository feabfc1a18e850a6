/** How far a long job is. Long jobs yield one between two steps. */
export interface Progress {
  /** In the same unit as `total`. */
  readonly done: number;
  readonly total: number;
  /** What is being done, for a person. */
  readonly what: string;
}

/** The unit in which a part of a job is counted, however long it is. */
const SHARE = 100_000;

/** What is told of the `index`th of `parts` jobs, as a part of one progress over all. */
export function partOf({ done, total, what }: Progress, index: number, parts: number): Progress {
  const share = total === 0 ? 0 : Math.floor((done / total) * SHARE);
  return { done: index * SHARE + share, total: parts * SHARE, what };
}
