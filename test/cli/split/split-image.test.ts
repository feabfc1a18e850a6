/** `qcow2-split` against the reader of its manifest. It proves: what it leaves, also where something went wrong before or now, is what it should be. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { main } from '../../../src/cli/split/main.js';
import type { Console } from '../../../src/cli/text/messages.js';
import { digestText, parseManifest, partName } from '../../../src/network/split-manifest.js';

const PART = 64 * 1024;
const content = Buffer.concat([Buffer.alloc(2 * PART, 7), Buffer.from('the end')]);

let folder: string;
let image: string;
let site: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'qcow2-wasm-split-'));
  image = join(folder, 'linux.qcow2');
  site = join(folder, 'site');
  writeFileSync(image, content);
});
afterEach(() => rmSync(folder, { recursive: true }));

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function split(...args: string[]): Ran {
  let [out, err] = ['', ''];
  const console: Console = {
    program: 'qcow2-split',
    out: (text) => void (out += text),
    err: (text) => void (err += text),
    flush: () => undefined,
  };
  return { code: main(args, console), out, err };
}

const splitIntoSite = (): Ran => split('--part-size', '64k', image, site);

/** The image, put together again. */
function joined(): Buffer {
  const { parts } = parseManifest(readFileSync(join(site, 'linux.split.json'), 'utf8'), 'linux.split.json');
  const bytes = parts.map((digest) => readFileSync(join(site, partName(digest))));
  expect(bytes.map((part) => digestText(part))).toEqual(parts);
  return Buffer.concat(bytes);
}

const FIRST_PART = partName(digestText(content.subarray(0, PART)));

describe('qcow2-split', () => {
  it('writes a manifest that is one, and the parts it names, equal ones once; and says what to do with them', () => {
    const { code, out, err } = splitIntoSite();
    expect([code, err]).toEqual([0, '']);
    expect(out).toContain('3 parts, 2 of them new');
    expect(out).toContain("url: '/path/to/linux.split.json', split: true");
    expect(joined().equals(content)).toBe(true);
    expect(readdirSync(site)).toHaveLength(3);
    expect(splitIntoSite().out).toContain('0 of them new');
  });

  it.each([
    { title: 'a part that is cut short', left: content.subarray(0, 100) },
    { title: 'a part of the same size with other bytes', left: Buffer.alloc(PART, 8) },
  ])('writes $title anew', ({ left }) => {
    mkdirSync(site);
    writeFileSync(join(site, FIRST_PART), left);
    expect(splitIntoSite().out).toContain('2 of them new');
    expect(joined().equals(content)).toBe(true);
  });

  it('leaves the manifest of before, and nothing half written, where it fails', () => {
    splitIntoSite();
    const before = readFileSync(join(site, 'linux.split.json'));
    const changed = Buffer.from(content).fill(9, 0, PART);
    const obstacle = partName(digestText(changed.subarray(PART, 2 * PART)));
    rmSync(join(site, obstacle));
    mkdirSync(join(site, obstacle));
    writeFileSync(image, changed);
    const { code, err } = splitIntoSite();
    expect(code).toBe(1);
    expect(err).toContain(`qcow2-split: ${join(site, obstacle)}: `);
    expect(readFileSync(join(site, 'linux.split.json')).equals(before)).toBe(true);
    expect(readdirSync(site).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  it.each<{ title: string; args: () => string[]; says: string }>([
    { title: 'no folder', args: () => [image], says: 'an image and a folder are needed' },
    { title: 'a third file', args: () => [image, site, 'x'], says: "not also 'x'" },
    { title: 'a part size that is none', args: () => ['-p', '1000', image, site], says: "'1000' is no power of two" },
    { title: 'a part size that is too large', args: () => ['-p', '8M', image, site], says: "'8M' is no power of two" },
    { title: 'an option that is none', args: () => ['--parts', image, site], says: "unrecognized option '--parts'" },
    {
      title: 'an image that is not there',
      args: () => [join(folder, 'none'), site],
      says: '/none: No such file',
    },
  ])('refuses $title, and says so', ({ args, says }) => {
    const { code, out, err } = split(...args());
    expect([code, out]).toEqual([1, '']);
    expect(err).toContain(`qcow2-split: `);
    expect(err).toContain(says);
  });

  it('refuses an image without a byte', () => {
    writeFileSync(image, '');
    expect(splitIntoSite().err).toContain('the image is empty');
  });

  it('explains itself', () => {
    const { code, out } = split('--help');
    expect(code).toBe(0);
    expect(out).toContain('usage: qcow2-split [--part-size N] IMAGE FOLDER');
    expect(split('--version').out).toMatch(/^qcow2-split version \d/);
  });
});
