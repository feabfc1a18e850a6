/**
 * From the words of `-o` to the options of a new qcow2 image, with QEMU's messages for what can't be.
 */
import { geometryOf } from '../../format/geometry.js';
import { MAX_L1_BYTES } from '../../format/limits.js';
import { CIPHER_MODES, CIPHERS } from '../../crypto/luks-cipher.js';
import { HASH_NAMES } from '../../crypto/hashes.js';
import type { LuksOptions } from '../../crypto/luks-create.js';
import { COMPRESSION_TYPES, type CompressionType, type CreateOptions } from '../../image/create-options.js';
import { PREALLOCATIONS, type Preallocation } from '../../image/preallocate.js';
import type { EncryptionSettings } from '../../image/unlock-image.js';
import { IV_KINDS } from '../../kernels/cipher-contract.js';
import { alignUp } from '../../util/integers.js';
import type { Secrets } from '../graph/secrets.js';
import { CliError } from '../text/messages.js';
import { boolOption } from '../text/option-list.js';
import { toNumber } from '../text/sizes.js';
import { oneOfWords, type OptionValues } from './creation-options.js';
import { FORMATS } from './formats.js';

/** What is asked for, checked; files and keys are not made yet. */
export interface Qcow2Settings {
  readonly create: Omit<CreateOptions, 'dataFile' | 'encryption' | 'backing'>;
  readonly backing: { readonly name: string; readonly format: (typeof FORMATS)[number] } | null;
  readonly dataFile: { readonly name: string; readonly raw: boolean } | null;
  readonly encryption: EncryptionSettings | null;
}

/** The image would be larger than the format, or the file, can hold. */
export class TooLarge extends CliError {
  constructor() {
    super('The image size is too large', { errno: 'EFBIG' });
  }
}

/** Throws messages for options out of range or against each other. */
export function qcow2Settings(values: OptionValues, secrets: Secrets): Qcow2Settings {
  checkAliases(values);
  const version = versionOf(values);
  const preallocation = preallocationOf(values);
  const compressionType = compressionOf(values);
  const encryption = encryptionOf(values, secrets);
  const extendedL2 = boolOf(values, 'extended_l2');
  const since3 = 'supported with compatibility level 1.1 and above (use version=v3 or greater)';
  if (extendedL2 && version < 3) throw new CliError(`Extended L2 entries are only ${since3}`);
  const clusterSize = clusterSizeOf(values, extendedL2);
  const backing = backingOf(values);
  if (backing !== null && preallocation !== 'off' && !extendedL2) {
    throw new CliError('Backing file and preallocation can only be used at the same time if extended_l2 is on');
  }
  const lazyRefcounts = boolOf(values, 'lazy_refcounts');
  if (lazyRefcounts && version < 3) throw new CliError(`Lazy refcounts only ${since3}`);
  const refcountBits = refcountBitsOf(values, version);
  const dataFile = dataFileOf(values, backing !== null);
  if (dataFile !== null && version < 3) throw new CliError(`External data files are only ${since3}`);
  if (compressionType !== 'zlib' && version < 3) throw new CliError(`Non-zlib compression type is only ${since3}`);
  const size = diskSize(values, geometryOf(Math.log2(clusterSize), Math.log2(refcountBits), extendedL2).l2Coverage);
  return {
    create: { size, version, clusterSize, extendedL2, lazyRefcounts, refcountBits, compressionType, preallocation },
    backing,
    dataFile,
    encryption,
  };
}

/** Two spellings of one option. */
function checkAliases(values: OptionValues): void {
  if (values.get('encrypt.format') === undefined || !boolOf(values, 'encryption')) return;
  throw new CliError("'encrypt.format' and its alias 'encryption' can't be used at the same time");
}

function boolOf(values: OptionValues, key: string): boolean {
  const value = values.get(key);
  return value !== undefined && boolOption(key, value);
}

function versionOf(values: OptionValues): 2 | 3 {
  const words = { '0.10': 2, v2: 2, '1.1': 3, v3: 3 } as const;
  const value = values.get('compat') ?? '1.1';
  const known = Object.keys(words) as (keyof typeof words)[];
  return words[oneOfWords('version', value, known)];
}

export function preallocationOf(values: OptionValues): Preallocation {
  return oneOfWords('preallocation', values.get('preallocation') ?? 'off', PREALLOCATIONS);
}

function compressionOf(values: OptionValues): CompressionType {
  return oneOfWords('compression-type', values.get('compression_type') ?? 'zlib', COMPRESSION_TYPES);
}

export function clusterSizeOf(values: OptionValues, extendedL2: boolean): number {
  const clusterSize = toNumber(values.size('cluster_size') ?? 65536n) ?? Number.MAX_SAFE_INTEGER;
  const bits = Math.log2(clusterSize);
  if (!Number.isInteger(bits) || bits < 9 || bits > 21) {
    throw new CliError('Cluster size must be a power of two between 512 and 2048k');
  }
  if (extendedL2 && bits < 14) {
    throw new CliError('Extended L2 entries are only supported with cluster sizes of at least 16384 bytes');
  }
  return clusterSize;
}

const WIDTHS = [1, 2, 4, 8, 16, 32, 64] as const;

export function refcountBitsOf(values: OptionValues, version: 2 | 3): (typeof WIDTHS)[number] {
  const given = values.number('refcount_bits') ?? 16n;
  const bits = WIDTHS.find((width) => BigInt(width) === given);
  if (bits === undefined) throw new CliError('Refcount width must be a power of two and may not exceed 64 bits');
  if (version < 3 && bits !== 16) {
    const needed = 'compatibility level 1.1 or above (use version=v3 or greater)';
    throw new CliError(`Different refcount widths than 16 bits require ${needed}`);
  }
  return bits;
}

function backingOf(values: OptionValues): Qcow2Settings['backing'] {
  const name = values.get('backing_file');
  const word = values.get('backing_fmt');
  const format = word === undefined ? undefined : oneOfWords('backing-fmt', word, FORMATS);
  if (format !== undefined && name === undefined) {
    throw new CliError('Backing format cannot be used without backing file');
  }
  if (name === undefined) return null;
  if (format === undefined) throw new CliError('Backing file specified without backing format');
  return { name, format };
}

function dataFileOf(values: OptionValues, hasBacking: boolean): Qcow2Settings['dataFile'] {
  const name = values.get('data_file');
  const raw = boolOf(values, 'data_file_raw');
  if (raw && name === undefined) throw new CliError('data-file-raw requires data-file');
  if (raw && hasBacking) throw new CliError('Backing file and data-file-raw cannot be used at the same time');
  return name === undefined ? null : { name, raw };
}

/** Rounded up to whole sectors. */
function diskSize(values: OptionValues, l2Coverage: number): number {
  const given = toNumber(values.size('size') ?? 0n);
  const size = given === null ? null : alignUp(given, 512);
  if (size === null || size > (MAX_L1_BYTES / 8) * l2Coverage) throw new TooLarge();
  return size;
}

function encryptionOf(values: OptionValues, secrets: Secrets): EncryptionSettings | null {
  const given = values.entries().filter(([key]) => key.startsWith('encrypt.'));
  const word = boolOf(values, 'encryption') ? 'aes' : values.get('encrypt.format');
  if (word === undefined) {
    if (given.length > 0) throw new CliError("Parameter 'encrypt.format' is missing");
    return null;
  }
  const format = oneOfWords('format', word === 'qcow' ? 'aes' : word, ['aes', 'luks'] as const);
  const luks = format === 'luks' ? luksOptions(values, 'encrypt.') : {};
  return { ...luks, format, passphrase: passphraseOf(values, 'encrypt.key-secret', secrets) };
}

/** A disk encrypted as a whole. */
export function luksSettings(values: OptionValues, secrets: Secrets): EncryptionSettings {
  const options = luksOptions(values, '');
  return { ...options, format: 'luks', passphrase: passphraseOf(values, 'key-secret', secrets) };
}

function passphraseOf(values: OptionValues, key: string, secrets: Secrets): Uint8Array {
  const id = values.get(key);
  if (id === undefined) throw new CliError(`Parameter '${key}' is required for cipher`);
  return secrets.lookup(id);
}

/** What was not given is left out. In qcow2 the options have a prefix. */
export function luksOptions(values: OptionValues, prefix: 'encrypt.' | ''): LuksOptions {
  const word = <T extends string>(key: string, words: readonly T[]): T | undefined => {
    const value = values.get(prefix + key);
    return value === undefined ? undefined : oneOfWords(key, value, words);
  };
  const iterTime = values.number(`${prefix}iter-time`);
  const options = {
    cipher: word('cipher-alg', CIPHERS),
    mode: word('cipher-mode', CIPHER_MODES),
    iv: word('ivgen-alg', IV_KINDS),
    ivHash: word('ivgen-hash-alg', HASH_NAMES),
    hash: word('hash-alg', HASH_NAMES),
    iterTime: iterTime === undefined ? undefined : Number(iterTime),
  };
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
