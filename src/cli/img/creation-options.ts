/**
 * The options that images can be created and amended with: names, types, defaults and help as in QEMU, in its order, in which
 * `create` prints them.
 */
import { CliError } from '../text/messages.js';
import {
  checkEntries,
  numberOption,
  parseOptionList,
  sizeOption,
  type OptionDescription,
} from '../text/option-list.js';

export interface CreationOption extends OptionDescription {
  /** What is printed for an option that was not given; none is printed without. */
  readonly defaultText?: string;
}

export type OptionTable = Readonly<Record<string, CreationOption>>;

const LUKS: OptionTable = {
  'cipher-alg': { type: 'string', help: 'Name of encryption cipher algorithm' },
  'cipher-mode': { type: 'string', help: 'Name of encryption cipher mode' },
  'ivgen-alg': { type: 'string', help: 'Name of IV generator algorithm' },
  'ivgen-hash-alg': { type: 'string', help: 'Name of IV generator hash algorithm' },
  'hash-alg': { type: 'string', help: 'Name of encryption hash algorithm' },
  'iter-time': { type: 'number', help: 'Time to spend in PBKDF in milliseconds' },
};

const ENCRYPTION: OptionTable = {
  encryption: {
    type: 'bool',
    help: "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
  },
  'encrypt.format': { type: 'string', help: "Encrypt the image, format choices: 'aes', 'luks'" },
  'encrypt.key-secret': { type: 'string', help: 'ID of secret providing qcow AES key or LUKS passphrase' },
  ...Object.fromEntries(Object.entries(LUKS).map(([key, option]) => [`encrypt.${key}`, option])),
};

/** What can be created can be amended. */
const COMMON: OptionTable = {
  size: { type: 'size', help: 'Virtual disk size' },
  compat: { type: 'string', help: 'Compatibility level (v2 [0.10] or v3 [1.1])' },
  backing_file: { type: 'string', help: 'File name of a base image' },
  backing_fmt: { type: 'string', help: 'Image format of the base image' },
  data_file: { type: 'string', help: 'File name of an external data file' },
  data_file_raw: { type: 'bool', help: 'The external data file must stay valid as a raw image' },
  lazy_refcounts: { type: 'bool', help: 'Postpone refcount updates', defaultText: 'off' },
  refcount_bits: { type: 'number', help: 'Width of a reference count entry in bits', defaultText: '16' },
};

export const QCOW2_CREATE: OptionTable = {
  ...ENCRYPTION,
  cluster_size: { type: 'size', help: 'qcow2 cluster size', defaultText: '65536' },
  extended_l2: { type: 'bool', help: 'Extended L2 tables', defaultText: 'off' },
  preallocation: { type: 'string', help: 'Preallocation mode (allowed values: off, metadata, falloc, full)' },
  compression_type: {
    type: 'string',
    help: 'Compression method used for image cluster compression',
    defaultText: 'zlib',
  },
  ...COMMON,
};

export const QCOW2_AMEND: OptionTable = {
  'encrypt.state': { type: 'string', help: 'Select new state of affected keyslots (active/inactive)' },
  'encrypt.keyslot': { type: 'number', help: 'Select a single keyslot to modify explicitly' },
  'encrypt.old-secret': { type: 'string', help: 'Select all keyslots that match this password' },
  'encrypt.new-secret': { type: 'string', help: 'New secret to set in the matching keyslots. Empty string to erase' },
  'encrypt.iter-time': { type: 'number', help: 'Time to spend in PBKDF in milliseconds' },
  ...COMMON,
};

export const RAW_CREATE: OptionTable = { size: { type: 'size', help: 'Virtual disk size' } };

export const LUKS_CREATE: OptionTable = {
  size: { type: 'size', help: 'Virtual disk size' },
  'key-secret': { type: 'string', help: 'ID of the secret that provides the keyslot passphrase' },
  ...LUKS,
};

/** Of the file that an image is put in. */
export const FILE_CREATE: OptionTable = {
  size: { type: 'size', help: 'Virtual disk size' },
  nocow: { type: 'bool', help: 'Turn off copy-on-write (valid only on btrfs)' },
  preallocation: { type: 'string', help: 'Preallocation mode (allowed values: off, falloc, full)' },
  extent_size_hint: { type: 'size', help: 'Extent size hint for the image file, 0 to disable' },
};

/** Two tables as one; where both have an option, that of the first counts. */
export function joinTables(first: OptionTable, second: OptionTable): OptionTable {
  return { ...first, ...Object.fromEntries(Object.entries(second).filter(([key]) => !Object.hasOwn(first, key))) };
}

/** Values of options, checked against their table. */
export class OptionValues {
  readonly #values = new Map<string, string>();

  constructor(readonly table: OptionTable) {}

  /** Takes a list of `-o`. Throws for an option that there is not, and for a value that is none of its type. */
  parse(list: string): void {
    const { entries } = parseOptionList(list);
    checkEntries(entries, this.table);
    for (const [key, value] of entries) this.#values.set(key, value);
  }

  /** Returns false for an option that there is not. */
  set(key: string, value: string): boolean {
    if (!Object.hasOwn(this.table, key)) return false;
    this.#values.set(key, value);
    return true;
  }

  get(key: string): string | undefined {
    return this.#values.get(key);
  }

  size(key: string): bigint | undefined {
    const value = this.#values.get(key);
    return value === undefined ? undefined : sizeOption(key, value);
  }

  number(key: string): bigint | undefined {
    const value = this.#values.get(key);
    return value === undefined ? undefined : numberOption(key, value);
  }

  /** All that was given. */
  entries(): [key: string, value: string][] {
    return [...this.#values];
  }

  /** As `create` shows them: in the order of the table, defaults included. */
  text(): string {
    const shown: string[] = [];
    for (const [key, { type, defaultText }] of Object.entries(this.table)) {
      const given = this.#values.get(key);
      if (given === undefined) {
        if (defaultText !== undefined) shown.push(`${key}=${defaultText}`);
      } else if (type === 'size' || type === 'number') {
        const value = type === 'size' ? sizeOption(key, given) : numberOption(key, given);
        shown.push(`${key}=${BigInt.asIntN(64, value)}`);
      } else {
        shown.push(`${key}=${type === 'string' ? given.replaceAll(',', ',,') : given}`);
      }
    }
    return shown.join(' ');
  }
}

/** One of a few words. `name` is the option's name as messages have it. */
export function oneOfWords<T extends string>(name: string, value: string, words: readonly T[]): T {
  const found = words.find((word) => word === value);
  if (found === undefined) throw new CliError(`Parameter '${name}' does not accept value '${value}'`);
  return found;
}
