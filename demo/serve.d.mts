/** Types of serve.mjs for the tests. */
export function serve(options?: { port?: number }): Promise<{ url: string; close(): Promise<void> }>;
