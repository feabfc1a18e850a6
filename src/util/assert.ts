/** For our own mistakes. The world's mistakes are `Qcow2Error`s. */
export function assert(condition: unknown, what: string): asserts condition {
  if (!condition) throw new Error(`internal: ${what}`);
}
