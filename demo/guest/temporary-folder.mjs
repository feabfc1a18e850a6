/**
 * Folders for what is being made, next to where it goes so that a rename puts it there. Each is named after the process
 * that made it: what an interrupted build left behind is found by that and removed.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const NAME = /^temporary-(\d+)-/;

/**
 * @template T
 * @param {string} parent absolute path, made when needed
 * @param {(folder: string) => T} use gets a new, empty folder, which is removed afterwards
 * @returns {T} what `use` returned
 */
export function withTemporaryFolder(parent, use) {
  mkdirSync(parent, { recursive: true });
  removeLeftovers(parent);
  const folder = mkdtempSync(join(parent, `temporary-${process.pid}-`));
  try {
    return use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @param {string} parent */
function removeLeftovers(parent) {
  for (const name of readdirSync(parent)) {
    const pid = NAME.exec(name)?.[1];
    if (pid && !isRunning(Number(pid))) rmSync(join(parent, name), { recursive: true, force: true });
  }
}

/** @param {number} pid */
function isRunning(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // EPERM: it runs, and is another user's.
    return error.code === 'EPERM';
  }
}
