/**
 * Which disk this tab runs, and when each was used last. The address names the disk (`?disk=work`), so that a reload gets the same one
 * and two tabs can run two; without that it is the one that was used last.
 */
import { FIRST_DISK, isSameName, nameProblem, tidyName } from './disk-names.js';

const PARAMETER = 'disk';
const STORAGE_KEY = 'qcow2-wasm-demo disks used';

/** The disk that the address names; null where it names none, or what can be the name of none. */
export function diskOfAddress(search = location.search): string | null {
  const name = tidyName(new URLSearchParams(search).get(PARAMETER) ?? '');
  return nameProblem(name) === null ? name : null;
}

/** From now on the address names `name`. */
export function putIntoAddress(name: string): void {
  const url = new URL(location.href);
  url.searchParams.set(PARAMETER, name);
  history.replaceState(history.state, '', url);
}

/** Of `names` the one that was used last; where none was, the first disk, be it there or not. */
export function lastUsed(names: readonly string[]): string {
  const [latest] = names.filter((name) => lastUse(name) !== null).sort((a, b) => lastUse(b)! - lastUse(a)!);
  return latest ?? names.find((name) => isSameName(name, FIRST_DISK)) ?? names[0] ?? FIRST_DISK;
}

/** Milliseconds since 1970, or null for never, as far as is known. */
export function lastUse(name: string): number | null {
  return uses()[name] ?? null;
}

/** `name` is used now. */
export function noteUse(name: string): void {
  store({ ...uses(), [name]: Date.now() });
}

/** @param newName null where the disk is gone. */
export function renameUse(name: string, newName: string | null): void {
  const { [name]: when, ...others } = uses();
  store(newName === null || when === undefined ? others : { ...others, [newName]: when });
}

function uses(): Record<string, number> {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(STORAGE_KEY) ?? '{}');
    const entries = Object.entries(stored ?? {}).filter((entry) => Number.isFinite(entry[1]));
    return Object.fromEntries(entries) as Record<string, number>;
  } catch {
    // Somebody else has put something there.
    return {};
  }
}

function store(changed: Record<string, number>): void {
  localStorage.setItem(STORAGE_KEY, JSON.stringify(changed));
}
