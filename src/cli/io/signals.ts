/** Signals of Linux: one more than the highest number. */
export const NSIG = 65;
