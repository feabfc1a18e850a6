/**
 * The rules of the house that are not a linter's: where what the host offers may be named, and that the map in
 * `docs/ARCHITECTURE.md` is true. The directions of imports are rules of `.oxlintrc.json`.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
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

  test('programs of the host: two, started where the host has no call for what they do', () => {
    const places = ['src/storage/node-file.ts', 'src/cli/graph/', 'src/cli/img/host-room.ts'];
    expect(usedOutside(/\bnode:child_process\b/, places)).toEqual([]);
    const started = sources.flatMap(({ code }) => [...code.matchAll(/\bspawn(?:Sync)?\(\s*([^,\s]+)/g)]);
    expect([...new Set(started.map((match) => match[1]))].toSorted()).toEqual(["'fallocate'", "'filefrag'"]);
  });

  test('requests to servers: in the network, and for the kernels as a file', () => {
    expect(usedOutside(/\bfetch\(/, ['src/network/', 'src/kernels/wasm-module.ts'])).toEqual([]);
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

describe('the command line', () => {
  const inCli = (path: string) => path.startsWith('src/cli/');

  test('reaches files of the host where nodes are opened and images are made, and where a command is about a file', () => {
    const places = [
      'src/cli/graph/',
      'src/cli/split/',
      ...['new-image', 'host-room', 'backing-chain'].map((name) => `src/cli/img/${name}.ts`),
      ...['input', 'write'].map((name) => `src/cli/io/${name}.ts`),
      'src/cli/text/messages.ts',
    ];
    expect(usedOutside(/\bnode:fs\b/, places).filter(inCli)).toEqual([]);
  });

  test('has text that knows nothing of the host, but for where it is written and what errors are called', () => {
    const places = ['src/cli/text/messages.ts', 'src/cli/text/errno.ts'];
    expect(usedOutside(/['"]node:|\bprocess\./, places).filter((path) => path.startsWith('src/cli/text/'))).toEqual([]);
  });

  test('writes to the terminal in one place', () => {
    expect(usedOutside(/\bprocess\.std(out|err)\.write\b|\bwriteSync\([12]\b/, []).filter(inCli)).toEqual([]);
  });

  test('starts without the engine, which comes with the command that needs it', () => {
    const engine = ['src/image/', 'src/metadata/', 'src/kernels/', 'src/operations/', 'src/crypto/', 'src/codec/'];
    const started = importedAtStart('src/cli/qcow2-img.ts');
    expect(started).toContain('src/cli/img/command-table.ts');
    expect(started.filter((path) => engine.some((folder) => path.startsWith(folder)))).toEqual([]);
  });

  /** The files that are loaded with this one: what it imports, and so on, but not the types, nor what is imported later. */
  function importedAtStart(entry: string): string[] {
    const found = new Set([entry]);
    for (const path of found) {
      const code = sources.find((source) => source.path === path)?.code ?? '';
      for (const match of code.matchAll(/^(?:import|export) (?!type\b)[^;]*?from '(\.[^']*)\.js'/gm)) {
        found.add(join(dirname(path), `${match[1]}.ts`));
      }
    }
    return [...found];
  }
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
