export const WORKER_SOURCE_ID: string;
export function bundleWorkerSource(): Promise<string>;
