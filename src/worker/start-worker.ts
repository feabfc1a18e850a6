/**
 * Starts the worker: from the source that is inlined into this package (a Blob URL, so that no bundler or server has to
 * be told of it), or from a file where a Content-Security-Policy forbids that.
 */
import workerSource from 'virtual:worker-source';
import { Qcow2Error } from '../errors.js';
import { WorkerClient } from './client.js';
import { watchWorker } from './liveness.js';
import { requireBrowserStorage } from './opfs-files.js';

export interface WorkerOptions {
  /**
   * Where `qcow2-wasm/worker` (`dist/worker.js`) is served, for pages whose Content-Security-Policy does not allow
   * `worker-src blob:`. By default the worker starts from its inlined source.
   */
  readonly workerUrl?: string | URL;
}

/** All that a browser tells of a worker that it could not or would not load. */
const NOT_LOADED =
  'its script could not be loaded; if the Content-Security-Policy of the page forbids blob: workers, give "workerUrl"';

/** @throws Qcow2Error `UNSUPPORTED` where the page has no OPFS, `WORKER_DIED` when the browser refuses to start it. */
export function startWorker(options: WorkerOptions): WorkerClient {
  requireBrowserStorage();
  const name = crypto.randomUUID();
  const inlined = options.workerUrl === undefined ? inlinedSource() : null;
  const worker = newWorker(options.workerUrl ?? inlined ?? '', name);
  const watch = new AbortController();
  const client = new WorkerClient(worker, () => worker.terminate());
  worker.addEventListener('error', (event) => client.fail(event.message || NOT_LOADED));
  void client.ready.then(() => watchWorker(name, watch.signal, () => client.fail('it was terminated')));
  void client.closed.then(() => watch.abort());
  // The URL is needed until the script has been loaded.
  if (inlined !== null) void Promise.race([client.ready, client.closed]).then(() => URL.revokeObjectURL(inlined));
  return client;
}

function inlinedSource(): string {
  return URL.createObjectURL(new Blob([workerSource], { type: 'text/javascript' }));
}

function newWorker(url: string | URL, name: string): Worker {
  try {
    return new Worker(url, { type: 'module', name });
  } catch (cause) {
    throw new Qcow2Error('WORKER_DIED', `the disk's worker did not start: ${NOT_LOADED}`, { cause });
  }
}
