/**
 * Which disks and bases this browser had at the last look, kept outside of OPFS: a browser that is short of room, or a visitor who clears what
 * sites have stored, takes a file without a word, and nothing that was in OPFS is left to tell of it.
 *
 * What the page deletes itself it strikes out here (`forgetDisk`), so that only what somebody else has cleared is missed. Where everything
 * was cleared, this with it, nobody knows; then nothing is said.
 */
import type { StorageHealth } from 'qcow2-wasm/opfs';

const STORAGE_KEY = 'qcow2-wasm-demo storage seen';

/** All times in milliseconds since 1970. */
export interface SeenDisk {
  readonly name: string;
  readonly firstSeen: number;
  readonly lastSeen: number;
  readonly bytes: number;
}

/** A version of a base image on which a disk stood. */
export interface SeenBase {
  readonly url: string;
  readonly identity: string;
  readonly presentBytes: number;
}

interface Ledger {
  readonly disks: readonly SeenDisk[];
  readonly bases: readonly SeenBase[];
}

const EMPTY: Ledger = { disks: [], bases: [] };

/** A base of which less than this is left was cleared: what a guest reads only ever adds to it. */
const LEFT_OF_WHOLE = 0.5;

/** These are there now, and were there before unless they are new. */
export function noteSeen({ disks, bases }: Pick<StorageHealth, 'disks' | 'bases'>, now = Date.now()): void {
  const before = new Map(read().disks.map((disk) => [disk.name, disk]));
  const seen = disks
    .filter(({ name }) => isDisk(name))
    .map(({ name, bytes }) => {
      const { firstSeen } = before.get(name) ?? { firstSeen: now };
      return { name, bytes, firstSeen, lastSeen: now };
    });
  const used = bases.filter(({ inUse }) => inUse);
  store({ disks: seen, bases: used.map(({ url, identity, presentBytes }) => ({ url, identity, presentBytes })) });
}

/** The disks that were there at the last look and are not among `names`. */
export function missingDisks(names: readonly string[]): SeenDisk[] {
  return read().disks.filter(({ name }) => !names.includes(name));
}

/** The disk of that file, which was there at the last look, or null. For a file that is not there now. */
export function missingDisk(name: string): SeenDisk | null {
  return read().disks.find((disk) => disk.name === name) ?? null;
}

/** The bases of which most was cleared since the last look. */
export function clearedBases(bases: StorageHealth['bases']): SeenBase[] {
  return read().bases.filter(({ url, identity, presentBytes }) => {
    const now = bases.find((base) => base.url === url && base.identity === identity);
    return (now?.presentBytes ?? 0) < presentBytes * LEFT_OF_WHOLE;
  });
}

export function hasSeenDisks(): boolean {
  return read().disks.length > 0;
}

/** This page deletes the disk: it is not missed. */
export function forgetDisk(name: string): void {
  const { disks, bases } = read();
  store({ disks: disks.filter((disk) => disk.name !== name), bases });
}

/** A file of the page's folder that is a visitor's disk; the others come and go. */
function isDisk(name: string): boolean {
  return name.startsWith('disk') && name.endsWith('.qcow2');
}

function read(): Ledger {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(STORAGE_KEY) ?? 'null');
    return isLedger(stored) ? stored : EMPTY;
  } catch {
    // Somebody else has put something there.
    return EMPTY;
  }
}

function isLedger(value: unknown): value is Ledger {
  const { disks, bases } = (value ?? {}) as Partial<Ledger>;
  const isNumber = (given: unknown): boolean => typeof given === 'number';
  return (
    Array.isArray(disks) &&
    Array.isArray(bases) &&
    disks.every((disk: SeenDisk) => isNumber(disk.firstSeen) && isNumber(disk.lastSeen)) &&
    bases.every((base: SeenBase) => isNumber(base.presentBytes))
  );
}

function store(ledger: Ledger): void {
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify(ledger));
  } catch {
    // Without room for it, what is cleared is not missed; the disks are none of its business.
  }
}
