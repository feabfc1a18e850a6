/**
 * The storages in a real worker: the conformance cases on an OPFS handle (read-write and read-only) and on a blob through
 * `FileReaderSync`. The cases are bundled into a worker of the test's own.
 */
import { build } from 'esbuild';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { READ_ONLY_STORAGE_CASES, WRITABLE_STORAGE_CASES } from '../storage/conformance.js';
import { openFixture, serveFixture } from './fixture-page.js';
import { launchBrowser, showConsoleOnFailure, type FolderServer, type TestBrowser } from './harness.js';
import type { CaseResult } from './storage-cases-worker.js';

let server: FolderServer;
let browser: TestBrowser;
let scratch: string;
let results: CaseResult[];

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'qcow2-wasm-storage-'));
  await build({
    entryPoints: [fileURLToPath(new URL('storage-cases-worker.ts', import.meta.url))],
    outfile: join(scratch, 'worker.js'),
    bundle: true,
    format: 'esm',
  });
  server = await serveFixture({ '/scratch': scratch });
  browser = await launchBrowser();
  const page = await openFixture(browser, server);
  results = await page.evaluate(
    () =>
      new Promise<CaseResult[]>((resolve, reject) => {
        const worker = new Worker('/scratch/worker.js', { type: 'module' });
        worker.addEventListener('message', (event: MessageEvent<CaseResult[]>) => resolve(event.data));
        worker.addEventListener('error', (event) => reject(new Error(event.message)));
      }),
  );
});
afterAll(async () => {
  await browser?.close();
  await server?.close();
  rmSync(scratch, { recursive: true, force: true });
});
showConsoleOnFailure(() => browser);

function failureOf(storage: CaseResult['storage'], title: string): string | null {
  const result = results.find((candidate) => candidate.storage === storage && candidate.title === title);
  return result === undefined ? 'the case did not run' : result.failure;
}

describe('an OPFS handle as a writable storage', () => {
  it.each(WRITABLE_STORAGE_CASES.map(({ title }) => title))('%s', (title) => {
    expect(failureOf('opfs', title)).toBeNull();
  });
});

describe.each(['opfs read-only', 'blob'] as const)('%s as a read-only storage', (storage) => {
  it.each(READ_ONLY_STORAGE_CASES.map(({ title }) => title))('%s', (title) => {
    expect(failureOf(storage, title)).toBeNull();
  });
});

describe('OPFS handles', () => {
  it('are shared by those who read, and refused to a second writer with IN_USE', () => {
    expect(failureOf('handles', 'two readers')).toBeNull();
    expect(failureOf('handles', 'a second writer')).toContain('IN_USE');
  });
});
