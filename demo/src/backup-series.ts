/**
 * A series of backups: the whole disk once, and then only what has changed since the download before, each file over the one before it.
 *
 *   work.qcow2 <- work 1.qcow2 <- work 2.qcow2        QEMU reads the last one as the disk, with all of them in one folder
 *
 * A dirty bitmap inside the disk (`backup`) says what has changed; this browser remembers the name of the file that came last. The bitmap is
 * written down whenever the page is hidden. A page that ends after that with its guest still writing leaves a bitmap that nobody can trust:
 * the series has ended then, and the next whole download begins another.
 */
import { Qcow2Error, type JobOptions, type OpfsDisk } from 'qcow2-wasm/opfs';

const BITMAP = 'backup';
const STORAGE_KEY = 'qcow2-wasm-demo backups';

interface Last {
  /** The name of the file that came last. */
  readonly fileName: string;
  /** Of the increments so far. */
  readonly count: number;
}

/** `last` is the file that the next one goes over; `bytes` what it will hold at least. */
export type BackupSeries =
  { readonly state: 'none' | 'ended' } | { readonly state: 'going on'; readonly last: string; readonly bytes: number };

/** Of the disk `name`, which is open. */
export async function backupSeries(disk: OpfsDisk, name: string): Promise<BackupSeries> {
  const bitmap = (await disk.bitmaps.list()).find((each) => each.name === BITMAP);
  if (bitmap === undefined) return { state: 'none' };
  const last = remembered()[name];
  if (last === undefined || bitmap.dirtyBytes === null) return { state: 'ended' };
  return { state: 'going on', last: last.fileName, bytes: bitmap.dirtyBytes };
}

/**
 * Has `download` fetch the whole disk into the file `fileName`, as the beginning of a series: what the guest changes from now on is
 * marked. A download that fails begins none.
 */
export async function beginSeries<T>(
  disk: OpfsDisk,
  { name, fileName }: { readonly name: string; readonly fileName: string },
  download: () => Promise<T>,
): Promise<T> {
  await endSeries(disk, name);
  await disk.bitmaps.add({ name: BITMAP });
  try {
    const done = await download();
    remember(name, { fileName, count: 0 });
    return done;
  } catch (error) {
    await endSeries(disk, name).catch(() => undefined);
    throw error;
  }
}

/** The file that comes next. @throws Qcow2Error `NOT_FOUND` where no series goes on. */
export function nextFileName(name: string): string {
  const { count } = lastOf(name);
  return `${name.replace(/[\\/:*?"<>|]/g, '-')} ${count + 1}.qcow2`;
}

/** One of a series, on its way to the visitor. */
export interface Increment {
  readonly blob: Blob;
  /** It is in the file of that name: the next one goes over it, and need not hold it. What has not arrived belongs to the next. */
  arrived(fileName: string): Promise<void>;
}

/** Exports what has changed since the file before. The disk takes no writes meanwhile. @throws Qcow2Error `NOT_FOUND` where no series goes on. */
export async function exportNext(disk: OpfsDisk, name: string, options: JobOptions): Promise<Increment> {
  const last = lastOf(name);
  const backing = { name: last.fileName, format: 'qcow2' } as const;
  const { blob, token } = await disk.bitmaps.exportIncrement(BITMAP, { ...options, backing });
  const arrived = async (fileName: string): Promise<void> => {
    remember(name, { fileName, count: last.count + 1 });
    await disk.bitmaps.confirmIncrement(BITMAP, token);
  };
  return { blob, arrived };
}

/** Writes down what is marked, if a series of the disk `name` goes on: for a page that may end. Asked for before it returns. */
export function storeMarks(disk: OpfsDisk, name: string): void {
  if (remembered()[name] !== undefined) void disk.bitmaps.store().catch(() => undefined);
}

async function endSeries(disk: OpfsDisk, name: string): Promise<void> {
  remember(name, null);
  const bitmaps = await disk.bitmaps.list();
  if (bitmaps.some((each) => each.name === BITMAP)) await disk.bitmaps.remove(BITMAP);
}

function lastOf(name: string): Last {
  const last = remembered()[name];
  if (last === undefined)
    throw new Qcow2Error('NOT_FOUND', `no series of backups of “${name}” goes on in this browser`);
  return last;
}

function remembered(): Readonly<Record<string, Last>> {
  try {
    const stored = JSON.parse(localStorage.getItem(STORAGE_KEY) ?? '{}') as Record<string, Partial<Last>> | null;
    const isLast = (entry: [string, Partial<Last>]): entry is [string, Last] =>
      typeof entry[1]?.fileName === 'string' && Number.isSafeInteger(entry[1].count);
    return Object.fromEntries(Object.entries(stored ?? {}).filter(isLast));
  } catch {
    // Somebody else has put something there.
    return {};
  }
}

/** @param last null for none. */
function remember(name: string, last: Last | null): void {
  const { [name]: _, ...others } = remembered();
  localStorage.setItem(STORAGE_KEY, JSON.stringify(last === null ? others : { ...others, [name]: last }));
}
