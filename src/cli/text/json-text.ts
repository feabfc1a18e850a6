/**
 * JSON as QEMU prints and reads it.
 *
 * Printed: by four spaces, or on one line with a space after each comma; what is not ASCII is escaped; the keys of an object come in
 * the order of QEMU's hash table, which scripts and its test suite have got used to.
 *
 * Read: also strings in apostrophes.
 */
import { CliError } from './messages.js';

export type JsonValue = null | boolean | number | bigint | string | readonly JsonValue[] | JsonObject;

export interface JsonObject {
  readonly [key: string]: JsonValue | undefined;
}

export interface JsonFormat {
  /** Over many lines. Default false. */
  readonly pretty?: boolean;
}

/** Members whose value is undefined are left out. */
export function jsonText(value: JsonValue, { pretty = false }: JsonFormat = {}): string {
  return write(value, pretty ? '\n' : null);
}

/** `line`: the line break with the indentation of the value itself; null for one line. */
function write(value: JsonValue, line: string | null): string {
  if (typeof value === 'string') return quoted(value);
  if (value === null || typeof value !== 'object') return String(value);
  const below = line === null ? null : `${line}    `;
  if (isArray(value)) {
    return enclosed(
      '[]',
      value.map((item) => write(item, below)),
      line,
    );
  }
  const texts = orderedMembers(value).map(([key, item]) => `${quoted(key)}: ${write(item, below)}`);
  return enclosed('{}', texts, line);
}

export function isArray(value: JsonValue): value is readonly JsonValue[] {
  return Array.isArray(value);
}

function enclosed(brackets: string, items: readonly string[], line: string | null): string {
  const [open, close] = [brackets[0]!, brackets[1]!];
  if (line === null) return open + items.join(', ') + close;
  const below = `${line}    `;
  const inner = items.length === 0 ? '' : below + items.join(`,${below}`);
  return open + inner + line + close;
}

const ESCAPES: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
};

function quoted(text: string): string {
  let result = '"';
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    const plain = unit >= 0x20 && unit < 0x7f;
    const hex = unit.toString(16).toUpperCase().padStart(4, '0');
    result += ESCAPES[text[at]!] ?? (plain ? text[at]! : `\\u${hex}`);
  }
  return `${result}"`;
}

const BUCKETS = 512;

/** The members of an object in QEMU's order: by buckets; within one the newest is first. Those that are undefined are left out. */
export function orderedMembers(object: JsonObject): [string, JsonValue][] {
  return Object.entries(object)
    .filter((member): member is [string, JsonValue] => member[1] !== undefined)
    .map((member, index) => ({ member, index, bucket: hash(member[0]) % BUCKETS }))
    .sort((a, b) => a.bucket - b.bucket || b.index - a.index)
    .map(({ member }) => member);
}

/** The hash of keys that QEMU's dictionaries use; its tables are never resized, so that the order is fixed. */
function hash(key: string): number {
  const bytes = Buffer.from(key);
  let value = Math.imul(0x238f13af, bytes.length);
  bytes.forEach((byte, index) => (value = (value + (byte << ((index * 5) % 24))) | 0));
  return (Math.imul(1103515243, value) + 12345) >>> 0;
}

/** Throws `CliError` in QEMU's words. Whole numbers that no double holds come as bigint. */
export function parseJson(text: string): JsonValue {
  const parser = new JsonParser(text);
  return parser.document();
}

const TOKEN =
  /\s*(?:([{}[\]:,])|("(?:[^"\\\p{Cc}]|\\.)*"|'(?:[^'\\\p{Cc}]|\\.)*')|(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)|([a-z]+))/uy;

type Token = { readonly kind: 'sign' | 'string' | 'number' | 'word'; readonly text: string };

class JsonParser {
  readonly #tokens: Token[] = [];
  #at = 0;

  constructor(text: string) {
    TOKEN.lastIndex = 0;
    const end = text.trimEnd().length;
    while (TOKEN.lastIndex < end) {
      const match = TOKEN.exec(text);
      if (match === null) throw new CliError('JSON parse error, stray input');
      const [, sign, string, number, word] = match;
      if (sign !== undefined) this.#tokens.push({ kind: 'sign', text: sign });
      else if (string !== undefined) this.#tokens.push({ kind: 'string', text: string });
      else if (number !== undefined) this.#tokens.push({ kind: 'number', text: number });
      else this.#tokens.push({ kind: 'word', text: word! });
    }
  }

  document(): JsonValue {
    if (this.#tokens.length === 0) throw new CliError('JSON parse error, expecting value');
    const value = this.#value();
    if (this.#at < this.#tokens.length) throw new CliError('JSON parse error, expecting end of input');
    return value;
  }

  #value(): JsonValue {
    const token = this.#take();
    if (token.kind === 'string') return unquoted(token.text);
    if (token.kind === 'number') return numberOf(token.text);
    if (token.kind === 'word') return keyword(token.text);
    if (token.text === '{') return this.#object();
    if (token.text === '[') return this.#array();
    throw new CliError('JSON parse error, expecting value');
  }

  #object(): JsonValue {
    const members: [string, JsonValue][] = [];
    if (this.#skip('}')) return {};
    do {
      const key = this.#take();
      if (key.kind !== 'string') throw new CliError('JSON parse error, key is not a string in object');
      if (!this.#skip(':')) throw new CliError('JSON parse error, missing : in object pair');
      const name = unquoted(key.text);
      if (members.some(([other]) => other === name)) throw new CliError('JSON parse error, duplicate key');
      members.push([name, this.#value()]);
    } while (this.#skip(','));
    if (!this.#skip('}')) throw new CliError('JSON parse error, expected separator in dict');
    return Object.fromEntries(members);
  }

  #array(): JsonValue {
    const items: JsonValue[] = [];
    if (this.#skip(']')) return items;
    do items.push(this.#value());
    while (this.#skip(','));
    if (!this.#skip(']')) throw new CliError('JSON parse error, expected separator in list');
    return items;
  }

  #take(): Token {
    const token = this.#tokens[this.#at++];
    if (token === undefined) throw new CliError('JSON parse error, premature EOI');
    return token;
  }

  #skip(sign: string): boolean {
    const token = this.#tokens[this.#at];
    const found = token?.kind === 'sign' && token.text === sign;
    if (found) this.#at++;
    return found;
  }
}

function keyword(word: string): JsonValue {
  if (word === 'true' || word === 'false') return word === 'true';
  if (word === 'null') return null;
  throw new CliError(`JSON parse error, invalid keyword '${word}'`);
}

function numberOf(text: string): number | bigint {
  const number = Number(text);
  return /^-?[0-9]+$/.test(text) && !Number.isSafeInteger(number) ? BigInt(text) : number;
}

const UNESCAPES: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' };

function unquoted(text: string): string {
  return text.slice(1, -1).replaceAll(/\\(u[0-9a-fA-F]{4}|.)/g, (_, escape: string) => {
    if (escape.length === 5) return String.fromCharCode(Number.parseInt(escape.slice(1), 16));
    if ('"\'\\/'.includes(escape)) return escape;
    const character = UNESCAPES[escape];
    if (character === undefined) throw new CliError('JSON parse error, invalid escape sequence in string');
    return character;
  });
}
