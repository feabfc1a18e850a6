/**
 * AES for one block in plain TypeScript, written after FIPS 197 line by line: the oracle of the tests. Its tables are looked up
 * with secrets, so how long it takes says something about them: never the default.
 *
 * The state is 16 bytes, column by column; words of the key schedule are arrays of 4.
 */

/** Bytes of a block. */
export const BLOCK_BYTES = 16;

const { SBOX, INVERSE_SBOX } = makeTables();

/** First rows of the matrices of MixColumns and its inverse, sections 5.1.3 and 5.3.3; each entry as the table of its products. */
const MIX = [2, 3, 1, 1].map(productsOf);
const INVERSE_MIX = [14, 11, 13, 9].map(productsOf);

export class ReferenceAes {
  /** 11, 13 or 15 round keys of 16 bytes. */
  readonly #roundKeys: Uint8Array[];

  /** @param key 16, 24 or 32 bytes */
  constructor(key: Uint8Array) {
    this.#roundKeys = expandKey(key);
  }

  /** Section 5.1. `block` is 16 bytes, changed in place. */
  encryptBlock(block: Uint8Array): void {
    const last = this.#roundKeys.length - 1;
    this.#addRoundKey(block, 0);
    for (let round = 1; round <= last; round++) {
      substitute(block, SBOX);
      shiftRows(block, 1);
      if (round < last) mixColumns(block, MIX);
      this.#addRoundKey(block, round);
    }
  }

  /** Section 5.3. `block` is 16 bytes, changed in place. */
  decryptBlock(block: Uint8Array): void {
    const last = this.#roundKeys.length - 1;
    this.#addRoundKey(block, last);
    for (let round = last - 1; round >= 0; round--) {
      shiftRows(block, -1);
      substitute(block, INVERSE_SBOX);
      this.#addRoundKey(block, round);
      if (round > 0) mixColumns(block, INVERSE_MIX);
    }
  }

  wipe(): void {
    for (const roundKey of this.#roundKeys) roundKey.fill(0);
  }

  #addRoundKey(block: Uint8Array, round: number): void {
    const roundKey = this.#roundKeys[round]!;
    for (let index = 0; index < BLOCK_BYTES; index++) block[index]! ^= roundKey[index]!;
  }
}

/** Section 5.2. */
function expandKey(key: Uint8Array): Uint8Array[] {
  const keyWords = key.length / 4;
  const rounds = keyWords + 6;
  const words = Array.from({ length: keyWords }, (_, index) => [...key.subarray(index * 4, index * 4 + 4)]);
  let constant = 1;
  for (let index = keyWords; index < 4 * (rounds + 1); index++) {
    let word = [...words[index - 1]!];
    if (index % keyWords === 0) {
      word = [...word.slice(1), word[0]!].map((byte) => SBOX[byte]!);
      word[0]! ^= constant;
      constant = multiply(constant, 2);
    } else if (keyWords > 6 && index % keyWords === 4) {
      word = word.map((byte) => SBOX[byte]!);
    }
    words.push(word.map((byte, at) => byte ^ words[index - keyWords]![at]!));
  }
  return Array.from({ length: rounds + 1 }, (_, round) =>
    Uint8Array.from(words.slice(round * 4, round * 4 + 4).flat()),
  );
}

function substitute(block: Uint8Array, table: Uint8Array): void {
  for (let index = 0; index < BLOCK_BYTES; index++) block[index] = table[block[index]!]!;
}

/** Row r moves left by r bytes, or right if `direction` is -1. */
function shiftRows(block: Uint8Array, direction: 1 | -1): void {
  const before = Uint8Array.from(block);
  for (let row = 0; row < 4; row++) {
    for (let column = 0; column < 4; column++) {
      const from = (column + direction * row + 4) % 4;
      block[column * 4 + row] = before[from * 4 + row]!;
    }
  }
}

/** Each column times the circulant matrix whose first row is `matrix`. */
function mixColumns(block: Uint8Array, matrix: readonly Uint8Array[]): void {
  const before = Uint8Array.from(block);
  for (let index = 0; index < BLOCK_BYTES; index++) {
    const column = index & ~3;
    let sum = 0;
    for (let row = 0; row < 4; row++) sum ^= matrix[(row - index + 16) % 4]![before[column + row]!]!;
    block[index] = sum;
  }
}

function productsOf(factor: number): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, value) => multiply(value, factor));
}

/** The product in GF(2^8), section 4.2. */
function multiply(a: number, b: number): number {
  let product = 0;
  for (let bit = 7; bit >= 0; bit--) {
    product = (product << 1) ^ (product & 0x80 ? 0x11b : 0);
    if ((b >> bit) & 1) product ^= a;
  }
  return product;
}

/** Section 5.1.1: the inverse, which is the 254th power, and then an affine map. */
function makeTables(): { readonly SBOX: Uint8Array; readonly INVERSE_SBOX: Uint8Array } {
  const tables = { SBOX: new Uint8Array(256), INVERSE_SBOX: new Uint8Array(256) };
  for (let value = 0; value < 256; value++) {
    let inverse = 1;
    for (let power = 0; power < 254; power++) inverse = multiply(inverse, value);
    let affine = 0x63;
    for (let turn = 0; turn < 5; turn++) affine ^= (inverse << turn) | (inverse >> (8 - turn));
    tables.SBOX[value] = affine;
    tables.INVERSE_SBOX[tables.SBOX[value]!] = value;
  }
  return tables;
}
