/** How far a long job is. Long jobs yield one between two steps. */
export interface Progress {
  /** In the same unit as `total`. */
  readonly done: number;
  readonly total: number;
  /** What is being done, for a person. */
  readonly what: string;
}
