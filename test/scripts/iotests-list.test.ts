/** The list of QEMU's tests that pass is one that can be run, and docs/QEMU-PARITY.md does not contradict it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { passingTests } from '../../scripts/iotests.mjs';

const ROOT = join(import.meta.dirname, '../..');
const all = passingTests();

test('each test is named once, as the suite names it', () => {
  expect(all.length).toBeGreaterThan(40);
  expect(new Set(all).size).toBe(all.length);
  expect(all.filter((name) => !/^(\d{3}|tests\/[\w-]+)$/.test(name))).toEqual([]);
});

test('each has the reason for which it is there', () => {
  const lines = readFileSync(join(ROOT, 'test/iotests/passing.txt'), 'utf8').split('\n');
  const entries = lines.filter((line) => line !== '' && !line.startsWith('#'));
  expect(entries).toHaveLength(all.length);
  expect(entries.filter((line) => !/^\S+ (\*| ) {2}\w.{8}/.test(line))).toEqual([]);
});

test('a handful of them is marked as cheap enough for every run', () => {
  const cheapest = passingTests({ cheapest: true });
  expect(cheapest.length).toBeGreaterThanOrEqual(5);
  expect(cheapest.length).toBeLessThanOrEqual(10);
  expect(cheapest.filter((name) => !all.includes(name))).toEqual([]);
});

test('none of them is among those that docs/QEMU-PARITY.md says do not pass', () => {
  const page = readFileSync(join(ROOT, 'docs/QEMU-PARITY.md'), 'utf8');
  const section = /^## QEMU's own tests$([\s\S]*?)^## /m.exec(page)?.[1] ?? '';
  const failing = [...section.matchAll(/\*\*(\S+)\*\*/g)].map((match) => match[1] ?? '');
  expect(failing.length).toBeGreaterThan(0);
  expect(failing.filter((name) => all.includes(name))).toEqual([]);
});
