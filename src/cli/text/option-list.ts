/**
 * Lists of options in one word: `key=value,key=value`. A comma within a value is doubled. `key` alone means `key=on`, `nokey` means
 * `key=off`, and `help` or `?` asks for help. In some lists the first word may be the value of a key that is implied.
 */
import { CliError } from './messages.js';
import { parseNumber, parseSize } from './sizes.js';

export type OptionEntry = readonly [key: string, value: string];

export interface ParsedOptionList {
  /** In the order given; a key may be there more than once, and the last one counts. Without `id`. */
  readonly entries: readonly OptionEntry[];
  readonly id: string | null;
  /** Keys that were given without value; QEMU warns of them in some lists. */
  readonly flags: readonly { readonly written: string; readonly key: string; readonly value: 'on' | 'off' }[];
}

/** QEMU: `opts_do_parse`. */
export function parseOptionList(text: string, impliedKey?: string): ParsedOptionList {
  const entries: OptionEntry[] = [];
  const flags: { written: string; key: string; value: 'on' | 'off' }[] = [];
  let id: string | null = null;
  let at = 0;
  let implied = impliedKey;
  while (at < text.length) {
    const word = /^[^=,]*/.exec(text.slice(at))![0];
    let key = word;
    let value: string;
    if (text[at + word.length] === '=') {
      [value, at] = readValue(text, at + word.length + 1);
    } else if (implied !== undefined) {
      key = implied;
      [value, at] = readValue(text, at);
    } else {
      at += word.length;
      const off = word.startsWith('no');
      key = off ? word.slice(2) : word;
      value = off ? 'off' : 'on';
      flags.push({ written: word, key, value: off ? 'off' : 'on' });
    }
    implied = undefined;
    if (text[at] === ',') at++;
    if (key === 'id') id ??= value;
    else entries.push([key, value]);
  }
  return { entries, id, flags };
}

/** A value up to the next single comma, and where that comma is. */
function readValue(text: string, start: number): [value: string, end: number] {
  let value = '';
  let at = start;
  for (;;) {
    const comma = text.indexOf(',', at);
    if (comma < 0) return [value + text.slice(at), text.length];
    value += text.slice(at, comma);
    if (text[comma + 1] !== ',') return [value, comma];
    value += ',';
    at = comma + 2;
  }
}

/** Whether the list asks for help. */
export function wantsHelp(text: string): boolean {
  return parseOptionList(text).flags.some(({ written }) => written === 'help' || written === '?');
}

/**
 * Whether lists can be joined by a comma: each must not be empty, nor begin with a comma, nor end with a single one, which would
 * be taken for a doubled one then.
 */
export function isJoinable(text: string): boolean {
  if (text === '' || text.startsWith(',')) return false;
  return /,*$/.exec(text)![0].length % 2 === 0;
}

export type OptionType = 'string' | 'bool' | 'number' | 'size';

export interface OptionDescription {
  readonly type: OptionType;
  readonly help?: string;
}

/** Throws a message for a key that is not described, or a value that is not of its type. */
export function checkEntries(
  entries: readonly OptionEntry[],
  known: Readonly<Record<string, OptionDescription>>,
): void {
  for (const [key, value] of entries) {
    const description = Object.hasOwn(known, key) ? known[key] : undefined;
    if (description === undefined) throw new CliError(`Invalid parameter '${key}'`);
    if (description.type === 'bool') boolOption(key, value);
    else if (description.type === 'number') numberOption(key, value);
    else if (description.type === 'size') sizeOption(key, value);
  }
}

/** `on`, `off` and their kin. */
export function boolOption(key: string, value: string): boolean {
  if (['on', 'yes', 'true', 'y'].includes(value)) return true;
  if (['off', 'no', 'false', 'n'].includes(value)) return false;
  throw new CliError(`Parameter '${key}' expects 'on' or 'off'`);
}

export function numberOption(key: string, value: string): bigint {
  const parsed = parseNumber(value);
  if (parsed.kind === 'number') return parsed.value;
  if (parsed.kind === 'range') throw new CliError(`Value '${value}' is too large for parameter '${key}'`);
  throw new CliError(`Parameter '${key}' expects a number`);
}

const SIZE_HINT =
  'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.\n';

export function sizeOption(key: string, value: string): bigint {
  const parsed = parseSize(value);
  if (parsed.kind === 'number') return parsed.value;
  if (parsed.kind === 'range') throw new CliError(`Value '${value}' is out of range for parameter '${key}'`);
  throw new CliError(`Parameter '${key}' expects a non-negative number below 2^64`, { hint: SIZE_HINT });
}

const TYPE_NAMES: Readonly<Record<OptionType, string>> = {
  string: 'str',
  bool: 'bool (on/off)',
  number: 'num',
  size: 'size',
};

/** The lines of help for a list, sorted. */
export function optionHelp(known: Readonly<Record<string, OptionDescription>>): string {
  return Object.entries(known)
    .map(([key, { type, help }]) => {
      const left = `  ${key}=<${TYPE_NAMES[type]}>`;
      return help === undefined ? `${left}\n` : `${left.padEnd(24)} - ${help}\n`;
    })
    .sort((a, b) => (a < b ? -1 : 1))
    .join('');
}
