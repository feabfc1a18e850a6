/**
 * What of a request can't be sent to another thread: a function or a symbol in a field of it, or of what lies in that. These are the
 * values whose own words a browser puts into its `DataCloneError`.
 */
export interface Unclonable {
  /** From the request on: `create.encryption.format`. */
  readonly field: string;
  readonly value: unknown;
}

/** The first that is found; null where it is something else. */
export function findUnclonable(request: object): Unclonable | null {
  return findIn(request, '', new Set());
}

function findIn(parent: object, path: string, seen: Set<object>): Unclonable | null {
  if (seen.has(parent) || ArrayBuffer.isView(parent)) return null;
  seen.add(parent);
  for (const [key, value] of Object.entries(parent) as [string, unknown][]) {
    const field = path === '' ? key : `${path}.${key}`;
    if (typeof value === 'function' || typeof value === 'symbol') return { field, value };
    const found = typeof value === 'object' && value !== null ? findIn(value, field, seen) : null;
    if (found !== null) return found;
  }
  return null;
}
