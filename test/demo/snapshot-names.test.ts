/** The names that the demo page gives to snapshots. */
import { describe, expect, it } from 'vitest';
import { defaultName, nameBefore } from '../../demo/src/snapshot-names.js';

describe('the name that the page proposes', () => {
  it('has the number after the highest in use', () => {
    expect(defaultName([])).toBe('Snapshot 1');
    expect(defaultName(['Snapshot 2', 'Snapshot 9', 'Snapshot 10', 'Snapshot x', 'my Snapshot 40'])).toBe(
      'Snapshot 11',
    );
  });
});

describe('the name of the present before a restore', () => {
  it('says what the visitor went back to', () => {
    expect(nameBefore('A', ['A', 'Before B'])).toBe('Before A');
  });

  it('is never one that is taken', () => {
    expect(nameBefore('A', ['A', 'Before A'])).toBe('Before A (2)');
    expect(nameBefore('A', ['Before A (2)', 'Before A', 'Before A (3)'])).toBe('Before A (4)');
  });

  it('has at most 255 bytes of UTF-8, of whole characters, also with a number', () => {
    // With the space in front the limit lies within a character.
    for (const name of ['\u{1f9ca}'.repeat(80), ` ${'\u{1f9ca}'.repeat(80)}`, 'ab'.repeat(200), '\u20ac'.repeat(100)]) {
      const first = nameBefore(name, []);
      const second = nameBefore(name, [first]);
      for (const made of [first, second]) {
        const bytes = new TextEncoder().encode(made);
        expect(bytes.length).toBeLessThanOrEqual(255);
        expect(bytes.length).toBeGreaterThan(255 - 4);
        // Half a character would come back as another one.
        expect(new TextDecoder().decode(bytes)).toBe(made);
      }
      expect(first.startsWith('Before ')).toBe(true);
      expect(second.endsWith(' (2)')).toBe(true);
    }
  });
});
