/**
 * Room on the host for what a file will hold: reserved, or filled with zeroes. Node has no `fallocate`; util-linux has. Where neither it nor
 * the file system is able to, the file stays as it is: the room is a hope then, as for any file with holes.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, fstatSync, openSync, statSync, writeSync } from 'node:fs';

/** Reserves a part of a file. */
export function reserveRange(path: string, offset: number, length: number): void {
  const descriptor = openSync(path, 'r+');
  try {
    const range = ['--keep-size', '--offset', String(offset), '--length', String(length)];
    // The child gets the open file as its standard input: the path may be another file's by now.
    spawnSync('fallocate', [...range, '/proc/self/fd/0'], { stdio: [descriptor, 'ignore', 'ignore'] });
  } finally {
    closeSync(descriptor);
  }
}

/** Reserves all of a file. */
export function reserveAll(path: string): void {
  const { size } = statSync(path);
  if (size > 0) reserveRange(path, 0, size);
}

const ZERO_CHUNK = 2 ** 20;

/** Writes zeroes from `start` to the end of a file, a piece a step. */
export function* writeZeroes(path: string, start: number): Generator<number, void> {
  const descriptor = openSync(path, 'r+');
  try {
    const { size } = fstatSync(descriptor);
    const zeroes = new Uint8Array(ZERO_CHUNK);
    for (let at = start; at < size;) {
      at += writeSync(descriptor, zeroes, 0, Math.min(ZERO_CHUNK, size - at), at);
      yield at;
    }
  } finally {
    closeSync(descriptor);
  }
}
