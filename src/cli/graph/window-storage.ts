/**
 * Window: a part of a storage as a storage of its own. One without a size goes to the end and grows with what it lies in.
 */
import { Qcow2Error } from '../../errors.js';
import type { Storage } from '../../storage/storage.js';

export interface Window {
  readonly offset: number;
  readonly size: number | null;
}

export function windowStorage(inner: Storage, { offset: start, size }: Window): Storage {
  const fixed = (): never => {
    throw new Qcow2Error('UNSUPPORTED', 'the size of the window is fixed');
  };
  return {
    get size() {
      return size ?? Math.max(0, inner.size - start);
    },
    get readOnly() {
      return inner.readOnly;
    },
    read: (offset, target) => inner.read(start + offset, target),
    write: (offset, source) => inner.write(start + offset, source),
    truncate: (wanted) => (size === null ? inner.truncate(start + wanted) : fixed()),
    flush: () => inner.flush(),
    ...(inner.punchHole ? { punchHole: (offset, length) => inner.punchHole?.(start + offset, length) } : {}),
    announce: (purpose) => inner.announce?.(purpose),
    close: () => inner.close(),
  };
}
