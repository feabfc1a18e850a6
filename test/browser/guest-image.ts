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

/** `qemu-img check` of one layer, without what lies below it; leaks are no errors. */
export function checkOverlay(path: string): Omit<ImageCheck, 'backingFile'> {
  // It ends with status 2 or 3 when it finds something, and says what on its output.
  const layer = `json:${JSON.stringify({ driver: 'qcow2', backing: null, file: { driver: 'file', filename: path } })}`;
  const { stdout, error } = spawnSync('qemu-img', ['check', '--output=json', layer], { encoding: 'utf8' });
  if (error) throw error;
  const report = JSON.parse(stdout) as CheckReport;
  return { errors: report['check-errors'] + (report.corruptions ?? 0), leaks: report.leaks ?? 0 };
}

export interface ListedSnapshot {
  readonly id: string;
  readonly name: string;
  readonly vmStateBytes: number;
}

/** The snapshots of an image as `qemu-img` lists them. */
export function snapshotsOf(path: string): ListedSnapshot[] {
  const info = JSON.parse(run('qemu-img', ['info', '--output=json', path])) as {
    snapshots?: { id: string; name: string; 'vm-state-size': number }[];
  };
  return (info.snapshots ?? []).map(({ id, name, ...rest }) => ({ id, name, vmStateBytes: rest['vm-state-size'] }));
}

/** A snapshot of the disk alone, as QEMU makes one. */
export function addQemuSnapshot(path: string, name: string): void {
  run('qemu-img', ['snapshot', '-c', name, path]);
}

export interface GuestDisk {
  readonly image: string;
  /** The disk as it was then; as it is now, unless told. */
  readonly snapshot?: string;
  /** Where copies go. */
  readonly folder: string;
}

/** Reads a file out of a guest's disk, which must be clean (`guestFileSystem`); resolves with its path on this machine. */
export async function fileFromGuestDisk(disk: GuestDisk & { readonly path: string }): Promise<string> {
  const target = join(disk.folder, 'from-guest');
  run('debugfs', ['-R', `dump ${disk.path} ${target}`, await guestFileSystem(disk)]);
  return target;
}

/**
 * Copies the ext4 on the second partition of a guest's disk; resolves with the path of the copy. Throws unless it is clean
 * once its journal is replayed.
 */
export async function guestFileSystem({ image, snapshot, folder }: GuestDisk): Promise<string> {
  const raw = join(folder, 'disk.raw');
  const partition = join(folder, 'partition.ext4');
  const moment = snapshot === undefined ? [] : ['-l', snapshot];
  run('qemu-img', ['convert', ...moment, '-O', 'raw', image, raw]);
  const { start, sectors } = await partitionEntry(raw, 2);
  const range = ['bs=512', `skip=${start}`, `count=${sectors}`, 'conv=sparse', 'status=none'];
  run('dd', [`if=${raw}`, `of=${partition}`, ...range]);
  // The guest is running: what it synced may be in the journal only. Status 1: something was put right.
  const { status, stdout } = spawnSync('e2fsck', ['-p', partition], { encoding: 'utf8', env: environment });
  if (status !== 0 && status !== 1) throw new Error(`e2fsck ended with status ${status}: ${stdout}`);
  // A full check that changes nothing ends with a failure if anything is left to put right.
  run('e2fsck', ['-fn', partition]);
  return partition;
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
