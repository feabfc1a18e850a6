/**
 * Sector ciphers in plain TypeScript: the twin that the WASM kernels are held against. One block at a time, by the letter of
 * `cipher-contract.ts`; never the default.
 */
import { Qcow2Error } from '../errors.js';
import { cipherKeys, countSectors, SECTOR_BYTES } from './cipher-contract.js';
import type { CipherMode, CreateSectorCipher, SectorCipher, SectorCipherOptions } from './cipher-contract.js';
import { BLOCK_BYTES, ReferenceAes } from './cipher-reference-aes.js';

class ReferenceSectorCipher implements SectorCipher {
  readonly name = 'reference';
  readonly #mode: CipherMode;
  readonly #iv: SectorCipherOptions['iv'];
  readonly #dataKey: ReferenceAes;
  readonly #tweakKey: ReferenceAes | null;
  readonly #ivKey: ReferenceAes | null;
  #wiped = false;

  constructor(options: SectorCipherOptions) {
    const keys = cipherKeys(options);
    this.#mode = options.mode;
    this.#iv = options.iv;
    this.#dataKey = new ReferenceAes(keys.data);
    this.#tweakKey = keys.tweak && new ReferenceAes(keys.tweak);
    this.#ivKey = keys.iv && new ReferenceAes(keys.iv);
  }

  encrypt(data: Uint8Array, firstSector: number): void {
    this.#eachSector(data, firstSector, (blocks, iv) => {
      switch (this.#mode) {
        case 'ecb':
          return blocks.forEach((block) => this.#dataKey.encryptBlock(block));
        case 'cbc':
          return this.#encryptChain(blocks, iv);
        case 'ctr':
          return this.#addKeyStream(blocks, iv);
        case 'xts':
          return this.#betweenTweaks(blocks, iv, (block) => this.#dataKey.encryptBlock(block));
      }
    });
  }

  decrypt(data: Uint8Array, firstSector: number): void {
    this.#eachSector(data, firstSector, (blocks, iv) => {
      switch (this.#mode) {
        case 'ecb':
          return blocks.forEach((block) => this.#dataKey.decryptBlock(block));
        case 'cbc':
          return this.#decryptChain(blocks, iv);
        case 'ctr':
          return this.#addKeyStream(blocks, iv);
        case 'xts':
          return this.#betweenTweaks(blocks, iv, (block) => this.#dataKey.decryptBlock(block));
      }
    });
  }

  wipe(): void {
    this.#wiped = true;
    for (const key of [this.#dataKey, this.#tweakKey, this.#ivKey]) key?.wipe();
  }

  #eachSector(data: Uint8Array, firstSector: number, work: (blocks: Uint8Array[], iv: Uint8Array) => void): void {
    if (this.#wiped) throw new Qcow2Error('CLOSED', 'the keys of this disk were wiped when it was closed');
    const sectors = countSectors(data, firstSector);
    for (let index = 0; index < sectors; index++) {
      const sector = data.subarray(index * SECTOR_BYTES, (index + 1) * SECTOR_BYTES);
      const blocks = Array.from({ length: SECTOR_BYTES / BLOCK_BYTES }, (_, block) =>
        sector.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES),
      );
      work(blocks, this.#ivOf(BigInt(firstSector) + BigInt(index)));
    }
  }

  #ivOf(sector: bigint): Uint8Array {
    const iv = new Uint8Array(BLOCK_BYTES);
    const number = this.#iv === 'plain' ? BigInt.asUintN(32, sector) : sector;
    new DataView(iv.buffer).setBigUint64(0, number, true);
    this.#ivKey?.encryptBlock(iv);
    return iv;
  }

  /** NIST SP 800-38A, section 6.2. */
  #encryptChain(blocks: readonly Uint8Array[], iv: Uint8Array): void {
    let previous = iv;
    for (const block of blocks) {
      add(block, previous);
      this.#dataKey.encryptBlock(block);
      previous = block;
    }
  }

  #decryptChain(blocks: readonly Uint8Array[], iv: Uint8Array): void {
    let previous = iv;
    for (const block of blocks) {
      const cipher = Uint8Array.from(block);
      this.#dataKey.decryptBlock(block);
      add(block, previous);
      previous = cipher;
    }
  }

  /** NIST SP 800-38A, section 6.5. */
  #addKeyStream(blocks: readonly Uint8Array[], iv: Uint8Array): void {
    for (const block of blocks) {
      const keyStream = iv.slice();
      this.#dataKey.encryptBlock(keyStream);
      add(block, keyStream);
      countUp(iv);
    }
  }

  /** IEEE 1619, sections 5.3.1 and 5.4.1. */
  #betweenTweaks(blocks: readonly Uint8Array[], iv: Uint8Array, work: (block: Uint8Array) => void): void {
    const tweak = iv;
    this.#tweakKey?.encryptBlock(tweak);
    for (const block of blocks) {
      add(block, tweak);
      work(block);
      add(block, tweak);
      double(tweak);
    }
  }
}

function add(block: Uint8Array, other: Uint8Array): void {
  for (let index = 0; index < BLOCK_BYTES; index++) block[index]! ^= other[index]!;
}

/** The next counter: a big-endian number. */
function countUp(counter: Uint8Array): void {
  for (let index = BLOCK_BYTES - 1; index >= 0; index--) {
    counter[index]! += 1;
    if (counter[index] !== 0) return;
  }
}

/** Times x in GF(2^128), little endian. IEEE 1619, section 5.2. */
function double(tweak: Uint8Array): void {
  let carry = 0;
  for (let index = 0; index < BLOCK_BYTES; index++) {
    const byte = tweak[index]!;
    tweak[index] = (byte << 1) | carry;
    carry = byte >> 7;
  }
  if (carry) tweak[0]! ^= 0x87;
}

/** A sector cipher without WebAssembly. Throws `BAD_ARGUMENT` when a key has the wrong length. */
export const createReferenceSectorCipher: CreateSectorCipher = (options) => new ReferenceSectorCipher(options);
