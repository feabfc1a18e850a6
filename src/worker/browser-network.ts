/** The network as a worker of a browser has it: its `fetch`, and OPFS to keep what comes. */
import type { NetworkHost } from '../network/open-base.js';
import { OpfsBases } from './opfs-bases.js';

export function browserNetwork(): NetworkHost {
  // Called as a function of the global scope: a method of another object it is none.
  return { fetch: (url, init) => globalThis.fetch(url, init), files: new OpfsBases() };
}
