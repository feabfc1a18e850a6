/** Types for the test of the list. */

/** The names of the tests in test/iotests/passing.txt; `cheapest`: of those alone that `npm test` runs. */
export function passingTests(options?: { readonly cheapest?: boolean }): string[];
