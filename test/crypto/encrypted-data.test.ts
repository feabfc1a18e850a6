/**
 * Encrypted data against a model: whatever ranges are written, the bytes come back, and each sector in the storage is what an
 * oracle makes of it under the number that it should have.
 */
import { describe, expect, it } from 'vitest';
import { EncryptedData, type SectorNumbering } from '../../src/crypto/encrypted-data.js';
import { createSectorCipher } from '../../src/kernels/index.js';
import { MemoryStorage } from '../../src/index.js';
import { oracle } from '../kernels/cipher-oracle.js';
import { expectSameBytes } from '../support/model-disk.js';
import { SeededRandom, seedOfThisRun, withSeed } from '../support/seeded-random.js';

const SECTOR = 512;
/** What is encrypted in one piece is shorter. */
const LENGTH = 600 * 1024;
/** Sectors of the guest lie so far behind those of the file. */
const SHIFT = 0x20_0000;

const key = new SeededRandom(5).bytes(64);
const OPTIONS = { cipher: 'aes-256', mode: 'xts', iv: 'plain64', key } as const;

class Compared {
  readonly storage = new MemoryStorage();
  readonly data: EncryptedData;
  readonly model = new Uint8Array(LENGTH);
  readonly #numbering: SectorNumbering;

  constructor(numbering: SectorNumbering) {
    this.#numbering = numbering;
    this.data = new EncryptedData(this.storage, createSectorCipher(OPTIONS), numbering);
    this.write(0, this.model);
  }

  write(offset: number, source: Uint8Array): void {
    const kept = source.slice();
    this.data.write(offset, source, offset + SHIFT);
    expectSameBytes(source, kept, 'what was handed over to be written');
    this.model.set(kept, offset);
  }

  expectRange(offset: number, length: number): void {
    const target = new Uint8Array(length).fill(0xa5);
    this.data.read(offset, target, offset + SHIFT);
    expectSameBytes(target, this.model.subarray(offset, offset + length), `${length} bytes at ${offset}`);
  }

  /** By another implementation. */
  expectStored(): void {
    const first = (this.#numbering === 'host' ? 0 : SHIFT) / SECTOR;
    expectSameBytes(oracle(OPTIONS, 'decrypt', this.storage.toBytes(), first), this.model, 'the decrypted storage');
  }
}

function randomRange(random: SeededRandom): { offset: number; length: number } {
  const near = random.below(LENGTH / SECTOR) * SECTOR;
  const offset = Math.max(0, Math.min(LENGTH - 1, random.oneIn(2) ? near : near + random.between(-3, 3)));
  const longest = LENGTH - offset;
  const lengths = [random.between(1, 3), SECTOR, random.between(1, 2000), random.below(longest), 300 * 1024, longest];
  return { offset, length: Math.max(1, Math.min(longest, random.pick(lengths))) };
}

describe.each(['host', 'guest'] as const)('encrypted data numbered by the %s', (numbering) => {
  it('reads what was written, in any ranges, and stores it as the oracle does', () =>
    withSeed(numbering, seedOfThisRun(), (random) => {
      const compared = new Compared(numbering);
      for (let turn = 0; turn < 150; turn++) {
        const { offset, length } = randomRange(random);
        compared.write(offset, random.bytes(length));
        const other = randomRange(random);
        compared.expectRange(other.offset, other.length);
      }
      compared.expectStored();
    }));

  it('keeps the rest of a sector that is written in part, at its start, its end and in its middle', () => {
    const compared = new Compared(numbering);
    compared.write(0, new SeededRandom(1).bytes(8 * SECTOR));
    for (const [offset, length] of [
      [SECTOR, 1],
      [2 * SECTOR - 1, 1],
      [SECTOR + 100, 100],
      [SECTOR - 1, 2],
      [SECTOR - 1, SECTOR + 2],
      [3 * SECTOR, SECTOR + 1],
      [4 * SECTOR - 1, SECTOR + 1],
    ] as const) {
      compared.write(offset, new Uint8Array(length).fill(0x77));
      compared.expectRange(0, 8 * SECTOR);
    }
    compared.expectStored();
  });

  it('writes a sector that lies across the end of a piece once, whole', () => {
    const compared = new Compared(numbering);
    compared.write(256 * 1024 - 100, new Uint8Array(200).fill(1));
    compared.write(10, new Uint8Array(LENGTH - 20).fill(2));
    compared.expectStored();
  });

  it('touches no sector beside those that a range covers', () => {
    const compared = new Compared(numbering);
    const before = compared.storage.toBytes();
    compared.write(5 * SECTOR + 7, new Uint8Array(2 * SECTOR).fill(9));
    const after = compared.storage.toBytes();
    expectSameBytes(after.subarray(0, 5 * SECTOR), before.subarray(0, 5 * SECTOR), 'what lies before');
    expectSameBytes(after.subarray(8 * SECTOR), before.subarray(8 * SECTOR), 'what lies behind');
  });

  it('leaves nothing changed of a storage that fails while what is covered in part is read', () => {
    const compared = new Compared(numbering);
    const before = compared.storage.toBytes();
    const { storage } = compared;
    storage.read = () => {
      throw new Error('the medium is gone');
    };
    expect(() => compared.data.write(100, new Uint8Array(1000), SHIFT + 100)).toThrow('the medium is gone');
    expectSameBytes(storage.toBytes(), before, 'the storage');
  });
});

it('encrypted data numbered by the guest read as rubbish at another guest offset, those by the host do not', () => {
  for (const [numbering, bound] of [
    ['host', false],
    ['guest', true],
  ] as const) {
    const { data } = new Compared(numbering);
    expect(data).toMatchObject({ encrypted: true, boundToGuestOffset: bound });
    const elsewhere = new Uint8Array(SECTOR);
    data.read(0, elsewhere, SHIFT + SECTOR);
    expect(elsewhere.every((byte) => byte === 0)).toBe(!bound);
  }
});
