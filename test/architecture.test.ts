/**
 * The rules of the house that are not a linter's: where what the host offers may be named, and that the map in
 * `docs/ARCHITECTURE.md` is true. The directions of imports are rules of `.oxlintrc.json`.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

interface SourceFile {
  /** From the top of the repository. */
  readonly path: string;
  /** Without comments, so that a word in an explanation is no use of it. */
  readonly code: string;
}

const sources: SourceFile[] = readdirSync(join(ROOT, 'src'), { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
  .map((entry) => {
    const path = join(entry.parentPath, entry.name);
    return { path: relative(ROOT, path), code: withoutComments(readFileSync(path, 'utf8')) };
  });

function withoutComments(source: string): string {
  return source.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/(^|\s)\/\/.*$/gm, '$1');
}

/** The files that use something outside the places it is allowed in; a place is a file or a folder ending in `/`. */
function usedOutside(pattern: RegExp, places: readonly string[]): string[] {
  return sources
    .filter(({ code }) => pattern.test(code))
    .map(({ path }) => path)
    .filter((path) => !places.some((place) => (place.endsWith('/') ? path.startsWith(place) : path === place)));
}

describe('what the host offers is named in one place', () => {
  test('OPFS access handles: in the OPFS storage', () => {
    expect(usedOutside(/\b(FileSystemSyncAccessHandle|createSyncAccessHandle)\b/, ['src/storage/opfs.ts'])).toEqual([]);
  });

  test('WebAssembly: in the kernels', () => {
    expect(usedOutside(/\bWebAssembly\b/, ['src/kernels/'])).toEqual([]);
  });

  test('modules of Node: in its storage, its cipher, its entry and the command line', () => {
    const places = ['src/storage/node-file.ts', 'src/crypto/node-sector-cipher.ts', 'src/node.ts', 'src/cli/'];
    expect(usedOutside(/['"]node:/, places)).toEqual([]);
  });

  test('messages between threads: in the worker', () => {
    expect(usedOutside(/\bpostMessage\b/, ['src/worker/'])).toEqual([]);
  });
});

describe('the engine is synchronous', () => {
  test('no async function and no promise in it, but where a chain of files is opened and keys are derived', () => {
    const engine = ['src/format/', 'src/codec/', 'src/crypto/', 'src/metadata/', 'src/image/'];
    const keys = ['iteration-count', 'key-derivation', 'luks', 'luks-amend', 'luks-create', 'luks-key-slots'];
    const places = ['src/image/open.ts', 'src/image/unlock-image.ts', ...keys.map((name) => `src/crypto/${name}.ts`)];
    const asynchronous = usedOutside(/\basync\b|\bPromise\b/, places);
    expect(asynchronous.filter((path) => engine.some((folder) => path.startsWith(folder)))).toEqual([]);
  });
});

describe('docs/ARCHITECTURE.md', () => {
  const readPage = () => readFileSync(join(ROOT, 'docs/ARCHITECTURE.md'), 'utf8');

  test('names every folder of src', () => {
    const folders = readdirSync(join(ROOT, 'src'), { withFileTypes: true }).filter((entry) => entry.isDirectory());
    const page = readPage();
    const unnamed = folders.map(({ name }) => name).filter((name) => !new RegExp(`\\b${name}/`).test(page));
    expect(unnamed).toEqual([]);
  });

  test('names only paths that exist', () => {
    // A path is what stands in backquotes and begins with a folder of the repository; `*` and `<name>` stand for anything.
    const quoted = [...readPage().matchAll(/`([\w.-]+\/[^`\s]*)`/g)].map((match) => match[1] ?? '');
    const tops = ['assembly', 'src', 'demo', 'test', 'bench', 'docs', 'scripts', '.ci'];
    const paths = quoted.filter((path) => tops.includes(path.split('/')[0] ?? '') && !/[*<{]/.test(path));
    expect(paths.length).toBeGreaterThan(0);
    expect(paths.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
  });
});
