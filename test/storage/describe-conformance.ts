/** The conformance cases as vitest tests. */
import { describe, it } from 'vitest';
import { settle } from '../../src/storage/not-resident.js';
import type { Storage } from '../../src/storage/storage.js';
import { READ_ONLY_STORAGE_CASES, WRITABLE_STORAGE_CASES } from './conformance.js';

/** @param open makes an empty storage for one case. */
export function describeWritableStorage(name: string, open: () => Storage | Promise<Storage>): void {
  describe(`${name} as a writable storage`, () => {
    for (const { title, run } of WRITABLE_STORAGE_CASES) {
      it(title, async () => {
        const storage = await open();
        try {
          run(storage);
        } finally {
          storage.close();
        }
      });
    }
  });
}

/** @param open makes a storage that holds `READ_ONLY_CONTENT`. It may fault: cases run through `settle`. */
export function describeReadOnlyStorage(name: string, open: () => Storage | Promise<Storage>): void {
  describe(`${name} as a read-only storage`, () => {
    for (const { title, run } of READ_ONLY_STORAGE_CASES) {
      it(title, async () => {
        const storage = await open();
        try {
          await settle(() => run(storage));
        } finally {
          storage.close();
        }
      });
    }
  });
}
