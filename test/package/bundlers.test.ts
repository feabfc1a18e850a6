/**
 * Boots a guest from what vite, webpack and esbuild make of `docs/examples/boot-a-guest.ts`, and from a page with plain script tags, in
 * Chromium. No bundler is given a configuration, but where the sources are and where the result goes.
 *
 * v86's own module imports modules of Node behind a condition, which webpack and esbuild refuse. As its README has it, it is a script
 * tag of its own there.
 */
import { build as esbuild, transform } from 'esbuild';
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build as vite } from 'vite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import webpack from 'webpack';
import { serveFolder, TestBrowser } from '../browser/harness.js';
import { packIntoProject, ROOT, type Packed } from './pack.js';

const BOOT_MILLISECONDS = 240_000;
const PAGE = '<!doctype html><meta charset="utf-8"><title>A guest</title><body></body>';
const V86_SCRIPT = '<script src="libv86.js"></script>';

let packed: Packed;
let browser: TestBrowser;

beforeAll(async () => {
  packed = await packIntoProject();
  const example = readFileSync(join(ROOT, 'docs/examples/boot-a-guest.ts'), 'utf8');
  const { code } = await transform(example, { loader: 'ts', target: 'es2022' });
  writeFileSync(join(packed.project, 'main.js'), code);
  writeFileSync(join(packed.project, 'main-without-v86.js'), code.replace(/^import .* from "v86";\n/m, ''));
  writeFileSync(join(packed.project, 'index.html'), `${PAGE}<script type="module" src="main.js"></script>`);
  writeFileSync(join(packed.project, 'package.json'), '{ "private": true, "type": "module" }');
  browser = await TestBrowser.launch();
});
afterAll(async () => {
  await browser.close();
  rmSync(packed.project, { recursive: true });
});

const BUNDLERS: Record<string, (out: string) => Promise<void>> = {
  vite: async (outDir) => {
    await vite({ root: packed.project, configFile: false, logLevel: 'error', build: { outDir, emptyOutDir: true } });
  },
  webpack: async (path) => {
    const entry = join(packed.project, 'main-without-v86.js');
    const stats = await new Promise<webpack.Stats | undefined>((resolve, reject) => {
      webpack({ mode: 'production', entry, output: { path }, context: packed.project }, (error, done) => {
        if (error) reject(error);
        else resolve(done);
      });
    });
    expect(stats?.toJson({ all: false, errors: true }).errors).toEqual([]);
    writeFileSync(join(path, 'index.html'), `${PAGE}${V86_SCRIPT}<script src="main.js"></script>`);
  },
  esbuild: async (outdir) => {
    const entry = join(packed.project, 'main-without-v86.js');
    await esbuild({ entryPoints: [entry], bundle: true, format: 'esm', outdir, absWorkingDir: packed.project });
    const main = '<script type="module" src="main-without-v86.js"></script>';
    writeFileSync(join(outdir, 'index.html'), `${PAGE}${V86_SCRIPT}${main}`);
  },
  'plain script tags': async (out) => {
    copyFileSync(join(packed.folder, 'dist/qcow2-wasm.global.js'), join(out, 'qcow2-wasm.js'));
    const main = readFileSync(join(packed.project, 'main.js'), 'utf8').replaceAll(/^import .*\n/gm, '');
    const globals = 'const { attach, listFiles, openDisk, remoteDisk, storeFile } = Qcow2Wasm;';
    const ours = '<script src="qcow2-wasm.js"></script>';
    writeFileSync(
      join(out, 'index.html'),
      `${PAGE}${V86_SCRIPT}${ours}<script>(async () => {${globals}\n${main}})();</script>`,
    );
  },
};

/** What makes a page cross-origin isolated. Nothing here needs it, nor minds. */
const ISOLATED = { 'Cross-Origin-Opener-Policy': 'same-origin', 'Cross-Origin-Embedder-Policy': 'require-corp' };

// One after the other: a page behind another one has its timers slowed down, and boots for minutes.
describe('a page made with', () => {
  test.each([
    ['vite', {}],
    ['webpack', ISOLATED],
    ['esbuild', {}],
    ['plain script tags', ISOLATED],
  ])('%s boots the guest, served with the headers %j', async (name, headers) => {
    const out = join(packed.project, `out-${name.replaceAll(' ', '-')}`);
    mkdirSync(out);
    await BUNDLERS[name]!(out);
    for (const file of ['v86.wasm', 'libv86.js'])
      copyFileSync(join(ROOT, 'node_modules/v86/build', file), join(out, file));
    copyFileSync(join(ROOT, 'demo/guest/linux.qcow2'), join(out, 'base.qcow2'));
    const server = await serveFolder(out, { '/bios': join(ROOT, 'demo/guest/bios') }, headers);
    try {
      const page = await browser.open(`${server.url}/`);
      const ready = () => document.body.innerText.includes('GUEST-READY');
      await page.waitForFunction(ready, null, { timeout: BOOT_MILLISECONDS });
      expect(await page.evaluate(() => crossOriginIsolated)).toBe(headers === ISOLATED);
      await page.close();
    } finally {
      await server.close();
    }
  });
});
