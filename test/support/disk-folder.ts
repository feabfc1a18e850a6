/** A new folder on a disk, where `npm test` keeps the others in memory: which part of a file is a hole, file systems in memory do not tell. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export function newDiskFolder(prefix: string): string {
  return mkdtempSync(join(process.env['TEST_DISK_FOLDER'] ?? tmpdir(), prefix));
}
