/** The disks as the page and scripts have them, and what may be asked of them. */
import type { CopyOptions } from './disk-copies.js';
import type { ListedDisk } from './disk-shelf.js';

/** A disk as `window.demo` gives it: a plain object that survives JSON. */
export interface DemoDisk {
  readonly name: string;
  /** Of its file. */
  readonly bytes: number;
  /** What it stands on, as the image names it; null: nothing. */
  readonly backingFile: string | null;
  readonly encryption: 'luks' | 'aes' | null;
  /** Whether the two above are known: a file that another tab writes may not tell. */
  readonly isReadable: boolean;
  /** ISO 8601: when it was started last, as far as is known. */
  readonly lastUsed: string;
  /** Who has it open. */
  readonly open: 'here' | 'elsewhere' | null;
}

/** They reject with a `Qcow2Error` for what does not work; nothing has changed then. */
export interface DiskActions {
  /** First the one that is open here, then the one that was used last. */
  list(): Promise<DemoDisk[]>;
  start(name: string, passphrase?: string): Promise<void>;
  /** A fresh disk over the base. */
  make(name: string, passphrase?: string): Promise<void>;
  duplicate(name: string, newName: string, options: CopyOptions): Promise<void>;
  rename(name: string, newName: string): Promise<void>;
  delete(name: string): Promise<void>;
}

export function plainDisk({ usedAt, isOpen, ...disk }: ListedDisk, isHere: boolean): DemoDisk {
  return { ...disk, lastUsed: new Date(usedAt).toISOString(), open: isHere ? 'here' : isOpen ? 'elsewhere' : null };
}
