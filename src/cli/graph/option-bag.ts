/**
 * Option bag: the options of one node while it is opened. Each is taken out by who understands it; what is left in the end is
 * not supported, and QEMU's drivers say so.
 */
import { CliError } from '../text/messages.js';
import { boolOption, sizeOption } from '../text/option-list.js';
import { toNumber } from '../text/sizes.js';
import type { NodeOptions, OptionValue } from './block-node.js';

export class OptionBag {
  readonly #values: Map<string, OptionValue>;

  constructor(options: Iterable<readonly [string, OptionValue]> = []) {
    this.#values = new Map(options);
  }

  get isEmpty(): boolean {
    return this.#values.size === 0;
  }

  /** The first option that nobody has taken; null for none. */
  get firstLeft(): string | null {
    for (const key of this.#values.keys()) return key;
    return null;
  }

  get rest(): NodeOptions {
    return this.#values;
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  peek(key: string): OptionValue | undefined {
    return this.#values.get(key);
  }

  /** As `takeText`, and it stays. */
  peekText(key: string): string | undefined {
    return textOf(this.peek(key));
  }

  set(key: string, value: OptionValue): void {
    this.#values.set(key, value);
  }

  /** Sets what is not set. */
  setDefault(key: string, value: OptionValue): void {
    if (!this.#values.has(key)) this.#values.set(key, value);
  }

  take(key: string): OptionValue | undefined {
    const value = this.#values.get(key);
    this.#values.delete(key);
    return value;
  }

  /** As text: a number or a boolean of a `json:` name in the form that a command line gives it. */
  takeText(key: string): string | undefined {
    return textOf(this.take(key));
  }

  /** Throws `CliError` in QEMU's words for what is neither `on` nor `off`. */
  takeBool(key: string): boolean | undefined {
    const text = this.takeText(key);
    return text === undefined ? undefined : boolOption(key, text);
  }

  /** Bytes, as bigint: what is too large has its own message, which depends on the option. */
  takeSize(key: string): bigint | undefined {
    const text = this.takeText(key);
    return text === undefined ? undefined : sizeOption(key, text);
  }

  /** Bytes that a number holds. */
  takeBytes(key: string): number | undefined {
    const size = this.takeSize(key);
    if (size === undefined) return undefined;
    const bytes = toNumber(size);
    if (bytes === null) throw new CliError(`Value '${size}' is out of range for parameter '${key}'`);
    return bytes;
  }

  /** The options below `prefix` (`file.`), without it. */
  takeUnder(prefix: string): OptionBag {
    const below = new OptionBag();
    for (const [key, value] of this.#values) {
      if (!key.startsWith(prefix)) continue;
      below.set(key.slice(prefix.length), value);
      this.#values.delete(key);
    }
    return below;
  }
}

function textOf(value: OptionValue | undefined): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'boolean') return value ? 'on' : 'off';
  return String(value);
}
