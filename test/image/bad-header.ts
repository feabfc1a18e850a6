/** Headers with one field out of its range each: what is done to a valid image, and what the error must say. */
import { EXTENSION_ENCRYPTION } from '../../src/format/header-extensions.js';
import type { ErrorCode } from '../../src/index.js';
import { CLUSTER_SIZE, FIELD, setExtension, type SmallImage } from './damaged.js';

export interface BadHeader {
  readonly title: string;
  damage(image: SmallImage): void;
  readonly codes: readonly ErrorCode[];
  /** Each must be in the message: the field, its value, the limit. */
  readonly says: readonly RegExp[];
}

function field32(title: string, at: number, value: number, says: readonly RegExp[]): BadHeader {
  return { title, damage: ({ view }) => view.setUint32(at, value), codes: ['BAD_IMAGE'], says };
}

/** An offset or a size; what passes 2^53 may be refused as a limit of ours. */
function field64(title: string, at: number, value: bigint, says: readonly RegExp[]): BadHeader {
  return { title, damage: ({ view }) => view.setBigUint64(at, value), codes: ['BAD_IMAGE', 'LIMIT'], says };
}

function unsupported(title: string, damage: (image: SmallImage) => void, says: readonly RegExp[]): BadHeader {
  return { title, damage, codes: ['UNSUPPORTED'], says };
}

function incompatibleBit(bit: bigint, title: string, says: readonly RegExp[]): BadHeader {
  return unsupported(title, ({ view }) => view.setBigUint64(FIELD.incompatible, 1n << bit), says);
}

/** An encryption extension: where the LUKS header lies, and how long it is. */
function encryptionExtension(offset: bigint, length: bigint, bytes = 16): Uint8Array {
  const data = new Uint8Array(16);
  new DataView(data.buffer).setBigUint64(0, offset);
  new DataView(data.buffer).setBigUint64(8, length);
  return data.subarray(0, bytes);
}

function badEncryption(title: string, data: Uint8Array, says: readonly RegExp[], method = 2): BadHeader {
  return {
    title: `an encryption extension ${title}`,
    damage: (image) => {
      setExtension(image, EXTENSION_ENCRYPTION, data.length, data);
      image.view.setUint32(FIELD.cryptMethod, method);
    },
    codes: ['BAD_IMAGE', 'LIMIT'],
    says,
  };
}

const AT = BigInt(CLUSTER_SIZE);

const ENCRYPTION: readonly BadHeader[] = [
  badEncryption('without encryption', encryptionExtension(AT, 592n), [/crypt_method is 0/], 0),
  badEncryption('with legacy AES', encryptionExtension(AT, 592n), [/crypt_method is 1/], 1),
  badEncryption('that is cut short', encryptionExtension(AT, 592n, 8), [/has 8 bytes/, /16/]),
  badEncryption('that is misaligned', encryptionExtension(AT + 512n, 592n), [
    /encryption header is 0x[0-9a-f]+/,
    /multiple/,
  ]),
  badEncryption('at 0', encryptionExtension(0n, 592n), [/encryption header is 0/]),
  badEncryption('past 2^53', encryptionExtension(1n << 60n, 592n), [/encryption header/]),
  badEncryption('past the file', encryptionExtension(1n << 40n, 592n), [/encryption header lies at 0x10000000000/]),
  badEncryption('shorter than a LUKS header', encryptionExtension(AT, 591n), [/is 591/, /592/]),
  badEncryption('of 2^40 bytes', encryptionExtension(AT, 1n << 40n), [/is 1099511627776/, /16777216/]),
];

const BASICS: readonly BadHeader[] = [
  {
    title: 'another magic',
    damage: ({ view }) => view.setUint32(FIELD.magic, 0x5146_49fa),
    codes: ['NOT_QCOW2'],
    says: [/qcow2/],
  },
  ...[0, 1, 4, 0xffff_ffff].map((version) =>
    unsupported(`version ${version}`, ({ view }) => view.setUint32(FIELD.version, version), [
      new RegExp(`version is ${version}`),
      /2 and 3/,
    ]),
  ),
  ...[0, 8, 22, 255, 0xffff_ffff].map((bits) =>
    field32(`cluster_bits ${bits}`, FIELD.clusterBits, bits, [new RegExp(`cluster_bits is ${bits}\\b`), /9 .*21/]),
  ),
  field32('crypt_method 2 without the extension', FIELD.cryptMethod, 2, [/crypt_method is 2/, /extension is missing/]),
  field32('crypt_method 3', FIELD.cryptMethod, 3, [/crypt_method is 3/, /0 .*1 .*2/]),
  ...ENCRYPTION,
  ...[7, 64, 0xffff_ffff].map((order) =>
    field32(`refcount_order ${order}`, FIELD.refcountOrder, order, [new RegExp(`refcount_order is ${order}`), /6/]),
  ),
  ...[0, 96, 105, CLUSTER_SIZE + 8, 0xffff_ffff].map((length) =>
    field32(`header_length ${length}`, FIELD.headerLength, length, [new RegExp(`header_length is ${length}`), /104/]),
  ),
];

const TABLES: readonly BadHeader[] = [
  field64('a size that the L1 table does not map', FIELD.size, 1n << 40n, [/l1_size is 4\b/, /1099511627776/]),
  field64('a size past every L1 table', FIELD.size, 1n << 50n, [/size is 1125899906842624/]),
  field64('a size of 2^63', FIELD.size, 1n << 63n, [/size/]),
  field32('an l1_size too small', FIELD.l1Size, 3, [/l1_size is 3/, /4/]),
  field32('an l1_size of zero', FIELD.l1Size, 0, [/l1_size is 0/, /4/]),
  field32('an l1_size past its limit', FIELD.l1Size, 4_194_305, [/l1_size is 4194305/, /4194304/]),
  field32('a huge l1_size', FIELD.l1Size, 0xffff_ffff, [/l1_size is 4294967295/, /4194304/]),
  field32('an l1_size that reaches past the file', FIELD.l1Size, 4_194_304, [/l1|L1/, /0x2003000/]),
  field64('a misaligned L1 table', FIELD.l1Offset, 0x3200n, [/l1_table_offset is 0x3200/, /0x1000/]),
  field64('an L1 table in the header', FIELD.l1Offset, 0n, [/l1_table_offset is 0/]),
  field64('an L1 table past the file', FIELD.l1Offset, 1n << 40n, [/l1_table_offset|L1 table/, /0x10000000000/]),
  field64('an L1 table past 2^53', FIELD.l1Offset, 1n << 55n, [/l1_table_offset/]),
  field64('a misaligned refcount table', FIELD.refcountTableOffset, 0x1200n, [
    /refcount_table_offset is 0x1200/,
    /0x1000/,
  ]),
  field64('a refcount table in the header', FIELD.refcountTableOffset, 0n, [/refcount_table_offset is 0/]),
  field64('a refcount table past the file', FIELD.refcountTableOffset, 1n << 40n, [
    /refcount_table_offset|refcount table/,
    /0x10000000000/,
  ]),
  ...[0, 2049, 0xffff_ffff].map((clusters) =>
    field32(`refcount_table_clusters ${clusters}`, FIELD.refcountTableClusters, clusters, [
      new RegExp(`refcount_table_clusters is ${clusters}\\b`),
      /2048/,
    ]),
  ),
  field32('a refcount table that reaches past the file', FIELD.refcountTableClusters, 2048, [/refcount.table/]),
];

const NAMES: readonly BadHeader[] = [
  {
    title: 'a backing file name of 1024 bytes',
    damage: ({ view }) => {
      view.setBigUint64(FIELD.backingOffset, 1024n);
      view.setUint32(FIELD.backingSize, 1024);
    },
    codes: ['BAD_IMAGE'],
    says: [/backing_file_size is 1024/, /1023/],
  },
  {
    title: 'a backing file name that leaves the first cluster',
    damage: ({ view }) => {
      view.setBigUint64(FIELD.backingOffset, 4000n);
      view.setUint32(FIELD.backingSize, 97);
    },
    codes: ['BAD_IMAGE'],
    says: [/backing_file_size is 97/, /96/],
  },
  {
    title: 'a backing file name past the first cluster',
    damage: ({ view }) => {
      view.setBigUint64(FIELD.backingOffset, 5000n);
      view.setUint32(FIELD.backingSize, 10);
    },
    codes: ['BAD_IMAGE'],
    says: [/backing_file_offset is 5000/, /4096/],
  },
  {
    title: 'a header extension longer than the cluster',
    damage: (image) => setExtension(image, 0x1234_5678, CLUSTER_SIZE, new Uint8Array(0)),
    codes: ['BAD_IMAGE'],
    says: [/0x12345678/, /4096/],
  },
  {
    title: 'a header extension of 4 GiB',
    damage: (image) => setExtension(image, 0x6803_f857, 0xffff_ffff, new Uint8Array(0)),
    codes: ['BAD_IMAGE'],
    says: [/0x6803f857/, /4294967295/],
  },
];

/** A feature name table entry: type 0 (incompatible), the bit, 46 bytes of name. */
function featureName(bit: number, name: string): Uint8Array {
  const entry = new Uint8Array(48);
  entry[1] = bit;
  entry.set(new TextEncoder().encode(name), 2);
  return entry;
}

const FEATURES: readonly BadHeader[] = [
  {
    title: 'an external data file that is not given',
    damage: ({ view }) => view.setBigUint64(FIELD.incompatible, 1n << 2n),
    codes: ['BACKING'],
    says: [/external data file/],
  },
  {
    title: 'extended L2 entries in clusters too small for them',
    damage: ({ view }) => view.setBigUint64(FIELD.incompatible, 1n << 4n),
    codes: ['BAD_IMAGE'],
    says: [/cluster_bits is 12/, /14/],
  },
  incompatibleBit(63n, 'the last incompatible bit', [/bit 63/]),
  unsupported(
    'a compression type that nobody knows',
    ({ view }) => {
      view.setBigUint64(FIELD.incompatible, 1n << 3n);
      view.setUint32(FIELD.headerLength, 112);
      view.setBigUint64(FIELD.compressionType, 2n << 56n);
    },
    [/compression_type is 2/],
  ),
  unsupported(
    'an unknown incompatible bit that the image itself names',
    (image) => {
      image.view.setBigUint64(FIELD.incompatible, 1n << 7n);
      setExtension(image, 0x6803_f857, 48, featureName(7, 'shiny feature'));
    },
    [/bit 7/, /shiny feature/],
  ),
];

export const BAD_HEADERS: readonly BadHeader[] = [...BASICS, ...TABLES, ...NAMES, ...FEATURES];
