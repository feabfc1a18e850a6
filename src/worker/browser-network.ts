/** The network as a worker of a browser has it: its `fetch`, and OPFS to keep what comes. */
import { hostFetch } from '../network/http.js';
import type { NetworkHost } from '../network/open-base.js';
import { OpfsBases } from './opfs-bases.js';

export function browserNetwork(): NetworkHost {
  return { fetch: hostFetch, files: new OpfsBases(), estimateRoom: () => navigator.storage.estimate() };
}
