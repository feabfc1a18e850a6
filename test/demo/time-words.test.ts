/** Times in words. */
import { expect, it } from 'vitest';
import { age, duration } from '../../demo/src/time-words.js';

const NOW = Date.UTC(2026, 5, 15, 12);

it('says how long ago something was, and from a month on when', () => {
  const before = (seconds: number) => age(new Date(NOW - seconds * 1000), NOW);
  expect(before(0)).toBe('just now');
  expect(before(9.9)).toBe('just now');
  expect(before(10)).toBe('10 s ago');
  expect(before(59)).toBe('59 s ago');
  expect(before(60)).toBe('1 min ago');
  expect(before(3599)).toBe('59 min ago');
  expect(before(3600)).toBe('1 h ago');
  expect(before(24 * 3600)).toBe('1 day ago');
  expect(before(29 * 24 * 3600)).toBe('29 days ago');
  expect(before(30 * 24 * 3600)).toMatch(/2026/);
});

it('takes what a clock that was put back has made for just now', () => {
  expect(age(new Date(NOW + 3_600_000), NOW)).toBe('just now');
});

it('rounds durations down', () => {
  expect(duration(0)).toBe('0 s');
  expect(duration(35.8)).toBe('35 s');
  expect(duration(119)).toBe('1 min');
  expect(duration(86_399)).toBe('23 h');
  expect(duration(2.9 * 86_400)).toBe('2 days');
});
