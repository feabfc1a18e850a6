/**
 * Which disks and bases this browser had at the last look, kept outside of OPFS: a browser that is short of room, or a visitor who clears what
 * sites have stored, takes a file without a word, and nothing that was in OPFS is left to tell of it.
 *
 * What the page deletes itself it strikes out here (`forgetDisk`), so that only what somebody else has cleared is missed. A mark with the
 * time stays of that: a look that began before, in this tab or another one, saw the disk yet, and must not bring it back. Where everything was
 * cleared, this with it, nobody knows; then nothing is said.
 *
 * A visit reads the ledger once, before anything looks (`readLedger`): each look replaces what is in it by what is there now.
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

/** That a disk was deleted or renamed by this page. */
interface StruckDisk {
  readonly name: string;
  readonly at: number;
}

export interface Ledger {
  readonly disks: readonly SeenDisk[];
  readonly bases: readonly SeenBase[];
  readonly struck: readonly StruckDisk[];
}

const EMPTY: Ledger = { disks: [], bases: [], struck: [] };

/** No visit that is worth it lasts longer. */
const STRUCK_MILLISECONDS = 7 * 24 * 3600 * 1000;

/** A base of which less than this is left was cleared: what a guest reads only ever adds to it. */
const LEFT_OF_WHOLE = 0.5;

/** These were there at a look that began at `lookedAt`, and were there before unless they are new. */
export function noteSeen({ disks, bases }: Pick<StorageHealth, 'disks' | 'bases'>, lookedAt: number): void {
  const { disks: earlier, struck } = readLedger();
  const before = new Map(earlier.map((disk) => [disk.name, disk]));
  const seen = disks
    .filter(({ name }) => isDisk(name))
    .map(({ name, bytes }) => {
      const { firstSeen } = before.get(name) ?? { firstSeen: lookedAt };
      return { name, bytes, firstSeen, lastSeen: lookedAt };
    })
    .filter((disk) => !isStruck(disk, struck));
  const used = bases.filter(({ inUse }) => inUse);
  const standing = used.map(({ url, identity, presentBytes }) => ({ url, identity, presentBytes }));
  store({ disks: seen, bases: standing, struck });
}

/** The disks of `ledger` that are not among `names`, and that no page has deleted since. */
export function missingDisks(ledger: Ledger, names: readonly string[]): SeenDisk[] {
  const { struck } = readLedger();
  return ledger.disks.filter((disk) => !names.includes(disk.name) && !isStruck(disk, struck));
}

/** The disk of that file, which is not there now, as `ledger` has it; null where it has none, or a page has deleted it since. */
export function missingDisk(ledger: Ledger, name: string): SeenDisk | null {
  return missingDisks(ledger, []).find((disk) => disk.name === name) ?? null;
}

/** The bases of `ledger` of which most was cleared since. */
export function clearedBases(ledger: Ledger, bases: StorageHealth['bases']): SeenBase[] {
  return ledger.bases.filter(({ url, identity, presentBytes }) => {
    const now = bases.find((base) => base.url === url && base.identity === identity);
    return (now?.presentBytes ?? 0) < presentBytes * LEFT_OF_WHOLE;
  });
}

/** This page deletes the disk, or has told that it is gone: it is not missed. */
export function forgetDisk(name: string, now = Date.now()): void {
  const { disks, bases, struck } = readLedger();
  const others = struck.filter((mark) => mark.name !== name && now - mark.at < STRUCK_MILLISECONDS);
  store({ disks: disks.filter((disk) => disk.name !== name), bases, struck: [...others, { name, at: now }] });
}

/** Whether it was struck out after it was seen: one of that name that was seen later is another one. */
function isStruck({ name, lastSeen }: SeenDisk, struck: readonly StruckDisk[]): boolean {
  return struck.some((mark) => mark.name === name && mark.at >= lastSeen);
}

/** A file of the page's folder that is a visitor's disk; the others come and go. */
function isDisk(name: string): boolean {
  return name.startsWith('disk') && name.endsWith('.qcow2');
}

/** What was seen up to now. */
export function readLedger(): Ledger {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(STORAGE_KEY) ?? 'null');
    // Earlier versions of this page left no marks.
    return isLedger(stored) ? { ...EMPTY, ...stored } : EMPTY;
  } catch {
    // Somebody else has put something there.
    return EMPTY;
  }
}

function isLedger(value: unknown): value is Omit<Ledger, 'struck'> & Partial<Ledger> {
  const { disks, bases, struck = [] } = (value ?? {}) as Partial<Ledger>;
  const isNumber = (given: unknown): boolean => typeof given === 'number';
  return (
    Array.isArray(disks) &&
    Array.isArray(bases) &&
    Array.isArray(struck) &&
    disks.every((disk: SeenDisk) => isNumber(disk.firstSeen) && isNumber(disk.lastSeen)) &&
    bases.every((base: SeenBase) => isNumber(base.presentBytes)) &&
    struck.every((mark: StruckDisk) => isNumber(mark.at))
  );
}

function store(ledger: Ledger): void {
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify(ledger));
  } catch {
    // Without room for it, what is cleared is not missed; the disks are none of its business.
  }
}
