import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterEach, describe, expect, it } from 'vitest';
import { thirdPartyNotices, type BundleContents } from '../../scripts/third-party-notices.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

/** A folder with one installed package of these files. */
function rootWith(name: string, files: Record<string, string>): string {
  const root = mkdtempSync(join(tmpdir(), 'qcow2-wasm-notices-'));
  folders.push(root);
  const folder = join(root, 'node_modules', name);
  mkdirSync(folder, { recursive: true });
  for (const [file, text] of Object.entries(files)) writeFileSync(join(folder, file), text);
  return root;
}

function bundleOf(inputs: Record<string, number>): BundleContents {
  const entries = Object.entries(inputs).map(([path, bytesInOutput]) => [path, { bytesInOutput }] as const);
  return { outputs: { 'dist/index.js': { inputs: Object.fromEntries(entries) } } };
}

describe('the notices of bundled software', () => {
  it('have both licences of pako, which the bundle of the worker contains', async () => {
    const { metafile } = await build({
      absWorkingDir: ROOT,
      entryPoints: ['src/worker.ts'],
      bundle: true,
      write: false,
      format: 'esm',
      metafile: true,
    });
    const text = thirdPartyNotices([metafile]);
    expect(text).toMatch(/^pako \d+\.\d+\.\d+ \(licence: \(MIT AND Zlib\)\)$/m);
    expect(text).toContain('Copyright (C) 2014-2017 by Vitaly Puzrin and Andrei Tuputcyn');
    expect(text).toContain('(C) 1995-2013 Jean-loup Gailly and Mark Adler');
  });

  it('leave out our own code and packages that put nothing into a bundle', () => {
    const bundle = bundleOf({ 'src/index.ts': 100, 'node_modules/pako/dist/pako.mjs': 0 });
    expect(thirdPartyNotices([bundle])).not.toContain('pako');
  });

  it('name a package once, by its folder, however many of its files are in', () => {
    const files = {
      'package.json': '{"name":"@some/thing","version":"1.2.3","license":"MIT"}',
      'LICENCE.md': 'Do what you like.',
    };
    const root = rootWith('@some/thing', files);
    const bundle = bundleOf({ 'node_modules/@some/thing/a.js': 1, 'node_modules/@some/thing/lib/b.js': 1 });
    const text = thirdPartyNotices([bundle, bundle], root);
    expect(text.match(/@some\/thing 1\.2\.3 \(licence: MIT\)\n\nDo what you like\.\n/g)).toHaveLength(1);
  });

  it('refuse a package without a licence text, and say where to put it', () => {
    const root = rootWith('bare', { 'package.json': '{"name":"bare","version":"1.0.0","license":"MIT"}' });
    expect(() => thirdPartyNotices([bundleOf({ 'node_modules/bare/index.js': 1 })], root)).toThrow(
      'bare goes into a bundle and has no licence file: put its text into scripts/licences/bare.txt',
    );
  });
});
