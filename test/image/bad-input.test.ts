/**
 * Bad input: a typed error that names the field, its value and the limit, and not one byte of the file changed.
 *
 * The fuzz at the end proves that damaged metadata gives success or a `Qcow2Error`: never another error, never a hang,
 * never a file that grows out of all proportion.
 */
import { describe, expect, it } from 'vitest';
import { MemoryStorage, openImage, Qcow2Error, type ErrorCode } from '../../src/index.js';
import { expectSameBytes } from '../support/model-disk.js';
import { BAD_HEADERS } from './bad-header.js';
import { CLUSTER_SIZE, DISK_SIZE, FIELD, smallImage, WRITTEN_VALUE, type SmallImage } from './damaged.js';

/** Runs `attempt`, demands a `Qcow2Error` with one of `codes`, returns its message. */
function refusal(attempt: () => void, codes?: readonly ErrorCode[]): string {
  try {
    attempt();
  } catch (error) {
    if (!(error instanceof Qcow2Error)) throw error;
    if (codes) expect(codes, error.message).toContain(error.code);
    return error.message;
  }
  throw new Error('nothing was refused');
}

/** Opens `bytes` for reading and for writing; both must be refused, and the bytes must stay. */
function expectOpenRefused(bytes: Uint8Array, codes?: readonly ErrorCode[], says: readonly RegExp[] = []): void {
  for (const readOnly of [true, false]) {
    const storage = new MemoryStorage(bytes.slice());
    const message = refusal(() => openImage(storage, { readOnly, backing: null }), codes);
    for (const pattern of says) expect(message).toMatch(pattern);
    expectSameBytes(storage.toBytes(), bytes, 'the file after it was refused');
  }
}

describe('a file that is no qcow2 image', () => {
  it('is NOT_QCOW2 when it is empty', () => expectOpenRefused(new Uint8Array(0), ['NOT_QCOW2']));

  it('is NOT_QCOW2 when it is all zeroes, text, or a VMDK', () => {
    expectOpenRefused(new Uint8Array(100_000), ['NOT_QCOW2']);
    expectOpenRefused(new TextEncoder().encode('# not an image\n'.repeat(1000)), ['NOT_QCOW2']);
    expectOpenRefused(new TextEncoder().encode('KDMV'.padEnd(70_000, ' ')), ['NOT_QCOW2']);
  });
});

describe('a qcow2 image cut short', () => {
  for (const version of [2, 3] as const) {
    it(`at any length up to 112 bytes is refused (version ${version})`, () => {
      const { bytes } = smallImage(version);
      for (let length = 0; length <= 112; length++) {
        const codes = length < 4 ? (['NOT_QCOW2'] as const) : (['BAD_IMAGE', 'NOT_QCOW2', 'UNSUPPORTED'] as const);
        expectOpenRefused(bytes.slice(0, length), codes);
      }
    });
  }

  it('before its tables is refused on open, and named', () => {
    const { bytes, l1 } = smallImage();
    expectOpenRefused(bytes.slice(0, CLUSTER_SIZE), ['BAD_IMAGE']);
    expectOpenRefused(bytes.slice(0, l1), ['BAD_IMAGE']);
  });
});

describe('a header with', () => {
  for (const { title, damage, codes, says } of BAD_HEADERS) {
    it(`${title} is refused with its field, value and limit`, () => {
      const image = smallImage();
      damage(image);
      expectOpenRefused(image.bytes, codes, says);
    });
  }
});

interface BadEntry {
  readonly title: string;
  readonly version?: 2;
  damage(image: SmallImage): void;
  /** What trips over it; reading by default. */
  readonly by?: 'write';
  /** The guest offset of the write; by default where nothing is yet. */
  readonly at?: number;
  readonly says: readonly RegExp[];
}

const COPIED = 1n << 63n;
const COMPRESSED = 1n << 62n;

const BAD_ENTRIES: readonly BadEntry[] = [
  {
    title: 'an L1 entry that is misaligned',
    damage: ({ view, l1, l2 }) => view.setBigUint64(l1, COPIED | BigInt(l2 + 512)),
    says: [/L1/i, /0x[0-9a-f]+200/],
  },
  {
    title: 'an L1 entry past the file',
    damage: ({ view, l1 }) => view.setBigUint64(l1, COPIED | (1n << 40n)),
    says: [/L1|L2/i, /0x10000000000/],
  },
  {
    title: 'an L1 entry past 2^53',
    damage: ({ view, l1 }) => view.setBigUint64(l1, COPIED | (1n << 55n)),
    says: [/L1|L2/i, /0x80000000000000/],
  },
  {
    title: 'an L2 entry that is misaligned',
    damage: ({ view, l2 }) => view.setBigUint64(l2, COPIED | 0x5200n),
    says: [/0x5200/],
  },
  {
    title: 'an L2 entry past the file',
    damage: ({ view, l2 }) => view.setBigUint64(l2, COPIED | (1n << 40n)),
    says: [/0x10000000000/],
  },
  {
    title: 'an L2 entry past 2^53',
    damage: ({ view, l2 }) => view.setBigUint64(l2, COPIED | (1n << 55n)),
    says: [/0x80000000000000/],
  },
  {
    title: 'a compressed L2 entry past the file',
    damage: ({ view, l2 }) => view.setBigUint64(l2, COMPRESSED | (1n << 40n)),
    says: [/0x10000000000/],
  },
  {
    title: 'a compressed cluster that does not inflate',
    damage: ({ view, l2 }) => view.setBigUint64(l2, COMPRESSED | (7n << 58n) | BigInt(l2)),
    says: [/compressed/i],
  },
  {
    title: 'an allocated zero cluster past the file',
    damage: ({ view, l2 }) => view.setBigUint64(l2, COPIED | (1n << 40n) | 1n),
    by: 'write',
    at: 0,
    says: [/0x10000000000/],
  },
  {
    title: 'a zero cluster in a version 2 image',
    version: 2,
    damage: ({ view, l2 }) => view.setBigUint64(l2, 1n),
    says: [/version 2|zero/i],
  },
  {
    title: 'a refcount table entry that is misaligned',
    damage: ({ view, refcountTable, refcountBlock }) => view.setBigUint64(refcountTable, BigInt(refcountBlock + 512)),
    by: 'write',
    says: [/refcount/i, /0x[0-9a-f]+200/],
  },
  {
    title: 'a refcount table entry past the file',
    damage: ({ view, refcountTable }) => view.setBigUint64(refcountTable, 1n << 40n),
    by: 'write',
    says: [/refcount/i, /0x10000000000/],
  },
];

/** What is found while an image is in use may mark it corrupt, and must change nothing else. */
function expectSameButCorruptBit(after: Uint8Array, before: Uint8Array): void {
  const unmarked = after.slice();
  const lowByte = FIELD.incompatible + 7;
  if (before[lowByte] === 0) unmarked[lowByte]! &= ~0b10;
  expectSameBytes(unmarked, before, 'the file');
}

describe('an image with', () => {
  for (const { title, version, damage, by, at, says } of BAD_ENTRIES) {
    it(`${title} is refused when it is met, and stays as it is`, () => {
      const image = smallImage(version ?? 3);
      damage(image);
      const storage = new MemoryStorage(image.bytes.slice());
      const message = refusal(() => {
        const opened = openImage(storage, { readOnly: by !== 'write' });
        if (by === 'write') {
          opened.write(at ?? DISK_SIZE / 2, new Uint8Array(100).fill(1));
          opened.flush();
        } else opened.read(0, new Uint8Array(100));
      }, ['BAD_IMAGE', 'CORRUPT', 'LIMIT']);
      for (const pattern of says) expect(message).toMatch(pattern);
      expectSameButCorruptBit(storage.toBytes(), image.bytes);
    });
  }

  it('refcounts that say all is free loses neither its header nor its tables nor its data', () => {
    const image = smallImage();
    image.bytes.fill(0, image.refcountBlock, image.refcountBlock + CLUSTER_SIZE);
    const storage = new MemoryStorage(image.bytes.slice());
    const opened = openImage(storage);
    refusal(() => {
      for (let offset = DISK_SIZE / 2; offset < DISK_SIZE; offset += CLUSTER_SIZE) {
        opened.write(offset, new Uint8Array(CLUSTER_SIZE).fill(1));
      }
      opened.flush();
    }, ['CORRUPT', 'BAD_IMAGE', 'POISONED']);
    const { bytes } = smallImage();
    const after = storage.toBytes();
    expectSameBytes(after.subarray(0, FIELD.incompatible), bytes.subarray(0, FIELD.incompatible), 'the header');
    for (const table of [image.l1, image.l2, image.refcountTable]) {
      expectSameBytes(
        after.subarray(table, table + CLUSTER_SIZE),
        bytes.subarray(table, table + CLUSTER_SIZE),
        'a table',
      );
    }
    const reopened = openImage(new MemoryStorage(after), { readOnly: true });
    const target = new Uint8Array(CLUSTER_SIZE);
    reopened.read(0, target);
    expect(target.every((byte) => byte === WRITTEN_VALUE)).toBe(true);
  });

  it('a refcount table that names no block for the header does not lose the header', () => {
    const image = smallImage();
    image.view.setBigUint64(image.refcountTable, 0n);
    const storage = new MemoryStorage(image.bytes.slice());
    refusal(() => {
      const opened = openImage(storage);
      opened.write(DISK_SIZE / 2, new Uint8Array(100).fill(1));
      opened.flush();
    }, ['CORRUPT', 'BAD_IMAGE']);
    expectSameButCorruptBit(storage.toBytes(), image.bytes);
  });

  for (const place of ['l1', 'l2', 'refcountTable', 'refcountBlock'] as const) {
    it(`a guest cluster that is mapped onto its own ${place} does not write over it`, () => {
      const image = smallImage();
      const host = image[place];
      image.view.setBigUint64(image.l2, COPIED | BigInt(host));
      const storage = new MemoryStorage(image.bytes.slice());
      try {
        const opened = openImage(storage);
        opened.write(0, new Uint8Array(CLUSTER_SIZE).fill(0xee));
        opened.flush();
      } catch (error) {
        if (!(error instanceof Qcow2Error)) throw error;
      }
      const after = storage.toBytes().subarray(host, host + CLUSTER_SIZE);
      expect(after.every((byte) => byte === 0xee)).toBe(false);
    });
  }
});
