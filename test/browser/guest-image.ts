/** A guest's disk as QEMU and e2fsprogs see it. A missing tool fails the test. */
import { execFileSync, spawnSync } from 'node:child_process';
import { open } from 'node:fs/promises';
import { join } from 'node:path';

const SECTOR_BYTES = 512;
const PARTITION_TABLE_OFFSET = 446;
const PARTITION_ENTRY_BYTES = 16;

/** Debian keeps e2fsprogs where a user's PATH does not look. */
const environment = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };

export interface ImageCheck {
  readonly errors: number;
  readonly leaks: number;
  readonly backingFile: string | null;
}

interface CheckReport {
  readonly corruptions?: number;
  readonly leaks?: number;
  readonly 'check-errors': number;
}

/** `qemu-img check` of a standalone image. */
export function checkImage(path: string): ImageCheck {
  const info = JSON.parse(run('qemu-img', ['info', '--output=json', path])) as { 'backing-filename'?: string };
  return { ...checkOverlay(path), backingFile: info['backing-filename'] ?? null };
}

/** `qemu-img check` of one layer; leaks are no errors. */
export function checkOverlay(path: string): Omit<ImageCheck, 'backingFile'> {
  // It ends with status 2 or 3 when it finds something, and says what on its output.
  const { stdout, error } = spawnSync('qemu-img', ['check', '--output=json', path], { encoding: 'utf8' });
  if (error) throw error;
  const report = JSON.parse(stdout) as CheckReport;
  return { errors: report['check-errors'] + (report.corruptions ?? 0), leaks: report.leaks ?? 0 };
}

/** Reads a file out of the ext4 on the second partition of `image`; resolves with its path on this machine. */
export async function fileFromGuestDisk(options: { image: string; path: string; folder: string }): Promise<string> {
  const { image, path, folder } = options;
  const raw = join(folder, 'disk.raw');
  const partition = join(folder, 'partition.ext4');
  const target = join(folder, 'from-guest');
  run('qemu-img', ['convert', '-O', 'raw', image, raw]);
  const { start, sectors } = await partitionEntry(raw, 2);
  const range = ['bs=512', `skip=${start}`, `count=${sectors}`, 'conv=sparse', 'status=none'];
  run('dd', [`if=${raw}`, `of=${partition}`, ...range]);
  // The guest is running: what it synced may be in the journal only. Status 1: something was put right.
  const { status, stdout } = spawnSync('e2fsck', ['-p', partition], { encoding: 'utf8', env: environment });
  if (status !== 0 && status !== 1) throw new Error(`e2fsck ended with status ${status}: ${stdout}`);
  run('debugfs', ['-R', `dump ${path} ${target}`, partition]);
  return target;
}

async function partitionEntry(raw: string, number: number): Promise<{ start: number; sectors: number }> {
  const file = await open(raw);
  try {
    const sector = Buffer.alloc(SECTOR_BYTES);
    await file.read(sector, 0, SECTOR_BYTES, 0);
    const entry = PARTITION_TABLE_OFFSET + (number - 1) * PARTITION_ENTRY_BYTES;
    return { start: sector.readUInt32LE(entry + 8), sectors: sector.readUInt32LE(entry + 12) };
  } finally {
    await file.close();
  }
}

function run(command: string, parameters: string[]): string {
  return execFileSync(command, parameters, { encoding: 'utf8', env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
}
