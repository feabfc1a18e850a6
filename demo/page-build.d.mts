/** Types of page-build.mjs for the tests. */
export function buildServiceWorker(folder: string, files: readonly string[]): Promise<void>;
