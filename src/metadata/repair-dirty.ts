/**
 * Repair of an image whose dirty bit is set: it was not closed, and its refcounts may be behind its tables (spec,
 * "incompatible_features" bit 0). The whole check with all its repairs (`image-check.ts`), run to its end, as QEMU does.
 *
 * The dirty bit is cleared last, once all of this is stable. Being cut off and run again does no harm.
 *
 * It runs while the image is opened, and nobody can stop it. How long it takes is measured in bytes of tables, and bounded:
 * a small file can name the same tables over and over again.
 */
import { Qcow2Error } from '../errors.js';
import { SECTOR_BYTES } from '../format/limits.js';
import type { Storage } from '../storage/storage.js';
import { ImageCheck } from './image-check.js';
import { ImageUnderCheck } from './image-under-check.js';

/** 1 GiB: some TiB of guest data in clusters of 64 KiB, and some seconds. */
const MOST_TABLE_BYTES = 2 ** 30;

/**
 * Throws `CORRUPT` when something is wrong that can't be repaired, `LIMIT` when more tables would have to be read than an
 * open may take the time for. The dirty bit is still set then.
 */
export function repairDirty(storage: Storage): void {
  const metered = new MeteredStorage(storage);
  const pass = new ImageCheck(new ImageUnderCheck(metered), { repair: 'all' });
  while (pass.step()) {
    if (metered.bytesRead > MOST_TABLE_BYTES) {
      const limit = `the limit is ${MOST_TABLE_BYTES}; repair it with a check first`;
      throw new Qcow2Error(
        'LIMIT',
        `the image was left dirty, and its tables are ${metered.bytesRead} bytes; ${limit}`,
      );
    }
  }
  const { corruptions, checkErrors } = pass.tally;
  if (corruptions + checkErrors === 0) return;
  const counts = `${corruptions} corruptions and ${checkErrors} check errors are left`;
  const first = pass.findings.list[0];
  const example = first === undefined ? '' : `, such as: ${first.message}`;
  throw new Qcow2Error('CORRUPT', `the image was left dirty and could not be repaired: ${counts}${example}`);
}

/** Adds up what is read. */
class MeteredStorage implements Storage {
  bytesRead = 0;
  readonly #inner: Storage;

  constructor(inner: Storage) {
    this.#inner = inner;
  }

  get size(): number {
    return this.#inner.size;
  }

  get readOnly(): boolean {
    return this.#inner.readOnly;
  }

  /** A read of less than a sector takes as long as one of a sector. */
  read(offset: number, target: Uint8Array): void {
    this.#inner.read(offset, target);
    this.bytesRead += Math.max(target.length, SECTOR_BYTES);
  }

  write(offset: number, source: Uint8Array): void {
    this.#inner.write(offset, source);
  }

  truncate(size: number): void {
    this.#inner.truncate(size);
  }

  flush(): void {
    this.#inner.flush();
  }

  close(): void {
    this.#inner.close();
  }
}
