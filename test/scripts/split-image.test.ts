/** The script that cuts an image into parts, against the reader of its manifest. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { digestText, parseManifest, partName } from '../../src/network/split-manifest.js';

const PART = 64 * 1024;
const SCRIPT = 'scripts/split-image.mjs';

let folder: string;
let image: string;
const content = Buffer.concat([Buffer.alloc(2 * PART, 7), Buffer.from('the end')]);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'qcow2-wasm-split-'));
  image = join(folder, 'linux.qcow2');
  writeFileSync(image, content);
});
afterAll(() => rmSync(folder, { recursive: true }));

describe('split-image', () => {
  it('writes a manifest that is one, and the parts it names, equal ones once', () => {
    const target = join(folder, 'site');
    expect(execFileSync(process.execPath, [SCRIPT, image, target, String(PART)], { encoding: 'utf8' })).toContain(
      '3 parts, 2 of them new',
    );
    const { geometry, parts } = parseManifest(
      readFileSync(join(target, 'linux.split.json'), 'utf8'),
      'linux.split.json',
    );
    expect([geometry.size, geometry.chunkBytes]).toEqual([content.length, PART]);
    const bytes = parts.map((digest) => readFileSync(join(target, partName(digest))));
    expect(bytes.map((part) => digestText(part))).toEqual(parts);
    expect(Buffer.concat(bytes).equals(content)).toBe(true);
    expect(readdirSync(target)).toHaveLength(3);
    expect(execFileSync(process.execPath, [SCRIPT, image, target, String(PART)], { encoding: 'utf8' })).toContain(
      '0 of them new',
    );
  });

  it.each([
    { title: 'no folder', parameters: () => [image], says: 'usage:' },
    { title: 'a part size that is none', parameters: () => [image, folder, '1000'], says: 'power of two' },
    { title: 'an image that is not there', parameters: () => [join(folder, 'none'), folder], says: 'ENOENT' },
  ])('refuses $title, and says so', ({ parameters, says }) => {
    const { status, stderr } = spawnSync(process.execPath, [SCRIPT, ...parameters()], { encoding: 'utf8' });
    expect(status).toBe(1);
    expect(stderr).toContain(says);
  });
});
