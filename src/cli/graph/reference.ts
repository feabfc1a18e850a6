/**
 * References: from what a user writes to options. A `json:{...}` name is its options, dotted; options given beside it win.
 */
import type { JsonValue } from '../text/json-text.js';
import { parseJson } from '../text/json-text.js';
import { CliError } from '../text/messages.js';
import type { NodeReference, OptionValue } from './block-node.js';
import { OptionBag } from './option-bag.js';

export interface ReadReference {
  readonly fileName: string | null;
  readonly options: OptionBag;
}

const JSON_PREFIX = 'json:';

/** Throws `CliError` for a `json:` name that can't be understood. */
export function readReference({ fileName, options }: NodeReference): ReadReference {
  if (fileName === null || !fileName.startsWith(JSON_PREFIX)) return { fileName, options: new OptionBag(options) };
  const bag = new OptionBag(flatten(parsed(fileName.slice(JSON_PREFIX.length))));
  for (const [key, value] of options ?? []) bag.set(key, value);
  return { fileName: null, options: bag };
}

function parsed(text: string): { readonly [key: string]: JsonValue | undefined } {
  let value: JsonValue;
  try {
    value = parseJson(text);
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    throw new CliError(`Could not parse the JSON options: ${error.message}`, { cause: error });
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new CliError('Invalid JSON object given');
  }
  return value as { readonly [key: string]: JsonValue | undefined };
}

/** `{a: {b: 1}, c: [2]}` to `a.b` 1, `c.0` 2. */
export function* flatten(value: JsonValue, name = ''): Generator<readonly [string, OptionValue]> {
  if (value === null || typeof value !== 'object') {
    yield [name, value];
    return;
  }
  for (const [key, below] of Object.entries(value) as [string, JsonValue | undefined][]) {
    if (below !== undefined) yield* flatten(below, name === '' ? key : `${name}.${key}`);
  }
}
