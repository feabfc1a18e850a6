/** Comparing megabytes: a test framework's own difference of two such arrays takes minutes. */
import { expect } from 'vitest';

export function expectSameBytes(actual: Uint8Array, expected: Uint8Array): void {
  expect(actual.length).toBe(expected.length);
  const index = actual.findIndex((byte, at) => byte !== expected[at]);
  if (index >= 0) expect.fail(`byte ${index} is ${actual[index]}, expected ${expected[index]}`);
}
