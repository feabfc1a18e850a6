import { expect, test } from 'vitest';
import { checkLine } from '../../../src/cli/text/check-lines.js';
import type { FindingFacts } from '../../../src/operations/check/check-image.js';

const line = (event: 'found' | 'repaired', facts: FindingFacts) =>
  checkLine({ event, finding: { kind: 'refcount', host: 0, message: 'in words', facts } });

test.each<[string, FindingFacts, string]>([
  ['a leak', { fact: 'refcount', cluster: 5, recorded: 2, counted: 1 }, 'Leaked cluster 5 refcount=2 reference=1'],
  ['a lost count', { fact: 'refcount', cluster: 5, recorded: 0, counted: 1 }, 'ERROR cluster 5 refcount=0 reference=1'],
  [
    'a flag in the L1 table',
    { fact: 'copied-l1', index: 3, entry: 0x40000n, refcount: 1 },
    'ERROR OFLAG_COPIED L2 cluster: l1_index=3 l1_entry=40000 refcount=1',
  ],
  [
    'a flag in an L2 table',
    { fact: 'copied-l2', entry: 0x8000000000050000n, refcount: 2 },
    'ERROR OFLAG_COPIED data cluster: l2_entry=8000000000050000 refcount=2',
  ],
  [
    'a place past the end',
    { fact: 'past-end', host: 0x400200, length: 65536 },
    'ERROR: counting reference for region exceeding the end of the file by one cluster or more: offset 0x400200 size 0x10000',
  ],
  [
    'a refcount block outside the file',
    { fact: 'refcount-block', index: 1, flaw: 'outside', counted: 0 },
    'ERROR refcount block 1 is outside image',
  ],
  [
    'a misaligned cluster',
    { fact: 'misaligned-cluster', host: 0x2a00, holdsData: false },
    'ERROR offset=2a00: Preallocated cluster is not properly aligned; L2 entry corrupted.',
  ],
  ['an incomplete snapshot', { fact: 'snapshot-incomplete', index: 2 }, 'ERROR snapshot table entry 2 is incomplete'],
])('%s, in the words of QEMU', (_name, facts, words) => {
  expect(line('found', facts)).toBe(words);
});

test('what is repaired says so', () => {
  expect(line('repaired', { fact: 'refcount', cluster: 1, recorded: 1, counted: 0 })).toBe(
    'Repairing cluster 1 refcount=1 reference=0',
  );
  expect(line('repaired', { fact: 'snapshot-extra', index: 3, bytes: 65536, limit: 1024 })).toBe(
    'Discarding too much extra metadata in snapshot table entry 3 (65536 > 1024)',
  );
  expect(checkLine({ event: 'rebuild' })).toBe('Rebuilding refcount structure');
});

test('what QEMU has no line for is said in the words of the engine', () => {
  expect(checkLine({ event: 'found', finding: { kind: 'bitmaps', host: 0, message: 'in words' } })).toBe(
    'ERROR in words',
  );
});
