/**
 * Modes by name: how the host's cache is used (`-t`), and whether discards reach the host (`-d`).
 */
import type { CacheMode } from './block-node.js';

const mode = (writethrough: boolean, direct: boolean, noFlush: boolean): CacheMode => ({
  writethrough,
  direct,
  noFlush,
});

const MODES: ReadonlyMap<string, CacheMode> = new Map([
  ['none', mode(false, true, false)],
  ['off', mode(false, true, false)],
  ['directsync', mode(true, true, false)],
  ['writeback', mode(false, false, false)],
  ['unsafe', mode(false, false, true)],
  ['writethrough', mode(true, false, false)],
]);

/** Null for a name that is none. */
export function parseCacheMode(name: string): CacheMode | null {
  return MODES.get(name) ?? null;
}

/** `-d`, and the option `discard`: whether discards go to the host; null for a name that is none. */
export function parseDiscardMode(name: string): boolean | null {
  if (name === 'unmap' || name === 'on') return true;
  return name === 'ignore' || name === 'off' ? false : null;
}
