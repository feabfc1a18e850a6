/**
 * `qcow2-wasm/worker`: the worker's script. It starts itself, and does nothing elsewhere than in a dedicated worker.
 *
 * Its name (`new Worker(url, { name })`) makes the lock that it holds for as long as it lives.
 */
import { browserNetwork } from './worker/browser-network.js';
import { openOpfsDirectory } from './worker/opfs-files.js';
import { serve, type ServerPort } from './worker/server.js';
import { takeLock } from './worker/web-locks.js';
import { livenessLock } from './worker/liveness.js';

/** The part of `DedicatedWorkerGlobalScope` used here; TypeScript's library has it for workers only. */
type WorkerScope = ServerPort & { readonly name: string };

if ('DedicatedWorkerGlobalScope' in globalThis) {
  const scope = globalThis as unknown as WorkerScope;
  const ready = takeLock(livenessLock(scope.name), 'exclusive', 0).then(() => undefined);
  serve(scope, { openDirectory: openOpfsDirectory, ready, network: browserNetwork() });
}
