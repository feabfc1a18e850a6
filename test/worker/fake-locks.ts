/** Web Locks for tests in Node, which has none: names held by one or shared by many, in the order of asking. */
import { vi } from 'vitest';

interface Waiting {
  readonly mode: LockMode;
  grant(): void;
}

interface Named {
  exclusive: boolean;
  count: number;
  readonly waiting: Waiting[];
}

type Callback = (lock: { readonly name: string } | null) => unknown;

interface Options {
  readonly mode?: LockMode;
  readonly ifAvailable?: boolean;
  readonly signal?: AbortSignal;
}

class FakeLocks {
  readonly #names = new Map<string, Named>();

  async request(
    name: string,
    { mode = 'exclusive', ifAvailable, signal }: Options,
    callback: Callback,
  ): Promise<unknown> {
    signal?.throwIfAborted();
    const named = this.#named(name);
    if (!isFree(named, mode) || named.waiting.length > 0) {
      if (ifAvailable) return callback(null);
      await this.#turn(named, mode, signal);
    }
    named.count++;
    named.exclusive = mode === 'exclusive';
    try {
      return await callback({ name });
    } finally {
      named.count--;
      named.exclusive = false;
      grantWaiting(named);
    }
  }

  #turn(named: Named, mode: LockMode, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiting: Waiting = { mode, grant: resolve };
      named.waiting.push(waiting);
      signal?.addEventListener('abort', () => {
        const place = named.waiting.indexOf(waiting);
        if (place < 0) return;
        named.waiting.splice(place, 1);
        reject(signal.reason as Error);
      });
    });
  }

  #named(name: string): Named {
    const named = this.#names.get(name) ?? { exclusive: false, count: 0, waiting: [] };
    this.#names.set(name, named);
    return named;
  }
}

function isFree(named: Named, mode: LockMode): boolean {
  return mode === 'exclusive' ? named.count === 0 : !named.exclusive;
}

function grantWaiting(named: Named): void {
  const [next] = named.waiting;
  if (next === undefined || !isFree(named, next.mode)) return;
  named.waiting.shift();
  next.grant();
}

/** Puts them in place of `navigator`; `vi.unstubAllGlobals()` takes them away. */
export function useFakeLocks(): void {
  vi.stubGlobal('navigator', { locks: new FakeLocks() });
}
