/** Runs the storage cases in a dedicated worker, and posts what failed. Bundled by `opfs-storage.test.ts`. */
import { isQcow2Error } from '../../src/errors.js';
import { BlobStorage } from '../../src/storage/blob.js';
import { openOpfsStorage } from '../../src/storage/opfs.js';
import type { Storage } from '../../src/storage/storage.js';
import { READ_ONLY_CONTENT, READ_ONLY_STORAGE_CASES, WRITABLE_STORAGE_CASES } from '../storage/conformance.js';

export interface CaseResult {
  readonly storage: 'opfs' | 'opfs read-only' | 'blob' | 'handles';
  readonly title: string;
  /** Null when it passed. */
  readonly failure: string | null;
}

async function newFile(content?: Uint8Array): Promise<FileSystemFileHandle> {
  const root = await navigator.storage.getDirectory();
  const file = await root.getFileHandle(`case-${crypto.randomUUID()}`, { create: true });
  if (content === undefined) return file;
  const storage = await openOpfsStorage(file, 'read-write');
  storage.write(0, content);
  storage.close();
  return file;
}

async function outcome(
  storage: CaseResult['storage'],
  title: string,
  run: () => Promise<void> | void,
): Promise<CaseResult> {
  try {
    await run();
    return { storage, title, failure: null };
  } catch (error) {
    return { storage, title, failure: isQcow2Error(error) ? `${error.code}: ${error.message}` : String(error) };
  }
}

async function withStorage(storage: Storage, run: (storage: Storage) => void): Promise<void> {
  try {
    run(storage);
  } finally {
    storage.close();
  }
}

async function runAll(): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  for (const { title, run } of WRITABLE_STORAGE_CASES) {
    const file = await newFile();
    results.push(await outcome('opfs', title, async () => withStorage(await openOpfsStorage(file, 'read-write'), run)));
  }
  const base = await newFile(READ_ONLY_CONTENT);
  const blob = new Blob([READ_ONLY_CONTENT]);
  for (const { title, run } of READ_ONLY_STORAGE_CASES) {
    results.push(
      await outcome('opfs read-only', title, async () => withStorage(await openOpfsStorage(base, 'read-only'), run)),
      await outcome('blob', title, () => withStorage(new BlobStorage(blob, { chunkBytes: 4096 }), run)),
    );
  }
  const first = await openOpfsStorage(base, 'read-only');
  results.push(
    await outcome('handles', 'two readers', async () => (await openOpfsStorage(base, 'read-only')).close()),
    await outcome('handles', 'a second writer', async () => (await openOpfsStorage(base, 'read-write')).close()),
  );
  first.close();
  return results;
}

const scope = globalThis as unknown as { postMessage(message: CaseResult[], transfer: Transferable[]): void };
scope.postMessage(await runAll(), []);
