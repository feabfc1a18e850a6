/** Types of build.mjs for the tests. */
export const PAGE_FILES: readonly string[];
export function buildDemo(): Promise<void>;
