/** A `MemoryFolder` with room for so many bytes in all, counted by the lengths of its files as browsers do. */
import { Qcow2Error } from '../../src/errors.js';
import type { FileMode } from '../../src/storage/opfs.js';
import type { Storage } from '../../src/storage/storage.js';
import { MemoryFolder } from './memory-files.js';

export class TightFolder extends MemoryFolder {
  /** Bytes. */
  limit = Infinity;
  readonly #sizes = new Map<string, number>();

  get used(): number {
    return [...this.#sizes.values()].reduce((sum, size) => sum + size, 0);
  }

  override async open(name: string, mode: FileMode): Promise<Storage> {
    const inner = await super.open(name, mode);
    this.#sizes.set(name, inner.size);
    const grow = (size: number): void => {
      const used = this.used - inner.size + Math.max(size, inner.size);
      if (size > inner.size && used > this.limit) throw new Qcow2Error('NO_SPACE', `${name}: no room is left`);
    };
    const resized = (): void => void (this.files.has(name) && this.#sizes.set(name, inner.size));
    return {
      get size() {
        return inner.size;
      },
      readOnly: inner.readOnly,
      read: (offset, target) => inner.read(offset, target),
      write: (offset, source) => {
        grow(offset + source.length);
        inner.write(offset, source);
        resized();
      },
      truncate: (size) => {
        grow(size);
        inner.truncate(size);
        resized();
      },
      flush: () => inner.flush(),
      close: () => inner.close(),
    };
  }

  override async remove(name: string): Promise<void> {
    await super.remove(name);
    this.#sizes.delete(name);
  }
}
