/**
 * The names of disks as people have them, and the files they are kept in.
 *
 *   disk         disk.qcow2                the first disk, as the page has always called it
 *   Anna: work   disk-Anna%3A work.qcow2   any other one: what some file system can't have in a name is written as in a URL
 *
 * A name has one file and a file one name. Two names that a file system may take for one (upper and lower case, composed letters or not)
 * are one here, too.
 */
import { Qcow2Error } from 'qcow2-wasm/opfs';

/** The name of a visitor's first disk. */
export const FIRST_DISK = 'disk';

/** Code points: with four bytes each, a file name stays below the 255 that file systems take. */
export const MAXIMUM_NAME_LENGTH = 60;

const PREFIX = 'disk-';
const SUFFIX = '.qcow2';
const UNSAFE = /[%/\\:*?"<>|]/g;

/** What was typed, as a name: composed, with single spaces, and none around it. */
export function tidyName(text: string): string {
  return text.normalize('NFC').replace(/\s+/g, ' ').trim();
}

/** What is wrong with a tidy name, for people; null for nothing. */
export function nameProblem(name: string): string | null {
  const length = [...name].length;
  if (length === 0) return 'A disk needs a name.';
  if (length > MAXIMUM_NAME_LENGTH) return `A name has at most ${MAXIMUM_NAME_LENGTH} characters; this has ${length}.`;
  if (/[\p{Cc}\p{Cs}]/u.test(name)) return 'A name has no control characters.';
  return null;
}

/** @throws Qcow2Error `BAD_ARGUMENT` for what can't be a name. */
export function requireName(text: string): string {
  const name = tidyName(text);
  const problem = nameProblem(name);
  if (problem !== null)
    throw new Qcow2Error('BAD_ARGUMENT', `${JSON.stringify(text)} is no name of a disk: ${problem}`);
  return name;
}

export function isSameName(one: string, other: string): boolean {
  return folded(one) === folded(other);
}

/** @param name tidy. */
export function fileNameOf(name: string): string {
  if (name === FIRST_DISK) return `${name}${SUFFIX}`;
  const escaped = name.replace(UNSAFE, (unsafe) => `%${unsafe.charCodeAt(0).toString(16).toUpperCase()}`);
  return `${PREFIX}${escaped}${SUFFIX}`;
}

/** The name of the disk in a file; null for a file that is none. */
export function diskNameOf(file: string): string | null {
  if (file === fileNameOf(FIRST_DISK)) return FIRST_DISK;
  if (!file.startsWith(PREFIX) || !file.endsWith(SUFFIX)) return null;
  const escaped = file.slice(PREFIX.length, -SUFFIX.length);
  const name = escaped.replace(/%([0-9A-F]{2})/g, (_, code: string) => String.fromCharCode(parseInt(code, 16)));
  return name === tidyName(name) && nameProblem(name) === null && fileNameOf(name) === file ? name : null;
}

/** `wanted`, or that with a number behind it, so that it is none of `taken`. */
export function freeName(wanted: string, taken: readonly string[]): string {
  const isFree = (name: string): boolean => !taken.some((other) => isSameName(name, other));
  for (let number = 1; ; number++) {
    const ending = number === 1 ? '' : ` ${number}`;
    const name = `${[...wanted].slice(0, MAXIMUM_NAME_LENGTH - ending.length).join('')}${ending}`;
    if (isFree(name)) return name;
  }
}

/** What a disk is called that comes from a file, or from an address: "debian-12.qcow2" -> "debian-12". */
export function nameFromFile(file: string): string {
  const last = tidyName(file.replace(/^.*[/\\]/, '').replace(/[\p{Cc}\p{Cs}]/gu, ''));
  const bare = tidyName(last.replace(/\.(qcow2|qcow|img|raw|bin|dd)$/i, ''));
  return tidyName([...(bare || 'image')].slice(0, MAXIMUM_NAME_LENGTH).join(''));
}

function folded(name: string): string {
  return tidyName(name).toLowerCase();
}
