/**
 * A folder in memory for the files of the tests, where the machine has one with room. Most of what a test of images waits for on a
 * disk is the flushing of files that are deleted a second later.
 */
import { mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { freemem, tmpdir } from 'node:os';
import { join } from 'node:path';

const IN_MEMORY = '/dev/shm';
/** The magic number of tmpfs. */
const TMPFS = 0x0102_1994;
/** The tests keep less than 1 GiB at any time; the rest is for all else. */
const ROOM_BYTES = 4 * 2 ** 30;
const MEMORY_BYTES = 8 * 2 ** 30;

/**
 * Runs `run` with TMPDIR in memory, if that can be had. `TEST_DISK_FOLDER` stays on the disk, for what asks a file system where a file
 * has holes.
 */
export async function withFastFolder(run) {
  const before = tmpdir();
  process.env['TEST_DISK_FOLDER'] ??= before;
  if (!hasRoom()) return run();
  const folder = mkdtempSync(join(IN_MEMORY, 'qcow2-wasm-tests-'));
  process.env['TMPDIR'] = folder;
  try {
    return await run();
  } finally {
    process.env['TMPDIR'] = before;
    rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}

function hasRoom() {
  try {
    const { type, bavail, bsize } = statfsSync(IN_MEMORY);
    return type === TMPFS && bavail * bsize >= ROOM_BYTES && freemem() >= MEMORY_BYTES;
  } catch {
    return false;
  }
}
