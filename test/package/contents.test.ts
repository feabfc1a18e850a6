/** What is published: whole, without what is not wanted, and as two linters of packages and TypeScript's resolutions want it. */
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packIntoProject, type Packed } from './pack.js';

let packed: Packed;

beforeAll(async () => {
  packed = await packIntoProject();
});
afterAll(() => rmSync(packed.project, { recursive: true }));

describe('the package', () => {
  test('has the entries, their types, the programs, the licences, and no sources of ours but in maps', () => {
    const wanted = [
      ...['index', 'opfs', 'node', 'worker', 'v86', 'qcow2-wasm.global'].map((name) => `dist/${name}.js`),
      ...['index', 'opfs', 'node', 'worker', 'v86'].map((name) => `dist/types/${name}.d.ts`),
      ...['dist/kernels.wasm', 'dist/cli/qcow2-img.js', 'dist/cli/qcow2-io.js', 'dist/cli/qcow2-split.js'],
      ...['README.md', 'CHANGELOG.md', 'LICENSE', 'dist/THIRD-PARTY-NOTICES.txt', 'package.json'],
    ];
    expect(packed.files).toEqual(expect.arrayContaining(wanted));
    expect(packed.files.filter((path) => /^(src|test|demo|bench|assembly|scripts)\//.test(path))).toEqual([]);
  });

  test('has nothing that publint complains of', async () => {
    const { messages, pkg } = await publint({ pkgDir: packed.folder, strict: true });
    expect(messages.map((message) => formatMessage(message, pkg))).toEqual([]);
  });

  test('resolves to types in every way that modules are resolved', async () => {
    const result = await checkPackage(createPackageFromTarballData(packed.tarball), {
      // It is no module.
      excludeEntrypoints: ['./kernels.wasm'],
    });
    if (!('problems' in result)) throw new Error('the package has no types');
    // It is ESM alone: resolution of `require`, and that of before `exports`, find nothing to be wrong about.
    const allowed = new Set(['CJSResolvesToESM', 'NoResolution']);
    const problems = result.problems.filter(
      (problem) =>
        !(allowed.has(problem.kind) && 'resolutionKind' in problem && /node10|cjs/.test(problem.resolutionKind)),
    );
    expect(problems).toEqual([]);
  });

  test('runs its programs from where npm puts them', async () => {
    const { spawnSync } = await import('node:child_process');
    for (const program of ['qcow2-img', 'qcow2-io', 'qcow2-split']) {
      const done = spawnSync(process.execPath, [join(packed.folder, `dist/cli/${program}.js`), '--version'], {
        encoding: 'utf8',
      });
      expect([done.status, done.stderr]).toEqual([0, '']);
    }
  });
});

test('the classic script has what the modules for pages have, but for what runs the engine in the page', async () => {
  const [opfs, v86, script] = await Promise.all(
    ['opfs', 'v86', 'global'].map((entry) => import(`../../src/${entry}.ts`) as Promise<Record<string, unknown>>),
  );
  const names = new Set([...Object.keys(opfs ?? {}), ...Object.keys(v86 ?? {})]);
  for (const inThread of ['openLocalDisk', 'localDisk']) names.delete(inThread);
  expect(Object.keys(script ?? {}).toSorted()).toEqual([...names].toSorted());
});
