/**
 * CTR from a counter of the test's choice. No sector is known whose IV would be that of a vector, or near a carry. So the IV is
 * bent: the last round key of what makes it, in the memory of the cipher, is changed by as much as the IV is to change.
 */
import { createCipheriv, randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import type { CipherName, CreateSectorCipher, SectorCipher } from '../../src/kernels/cipher-contract.js';
import { NIST_VECTORS } from './cipher-vectors.js';
import { withMemories } from './recorded-memory.js';

/** `assembly/sector-context.ts`: the slot of the IVs' key, and round key 14 in it. */
const LAST_ROUND_KEY_OF_IVS = 5120 + 16 + 14 * 128;
const SECTOR_BYTES = 512;

/** For the ciphers that have their keys in WASM memory. */
export function testCounters(create: CreateSectorCipher): void {
  test.each(NIST_VECTORS.filter(({ mode }) => mode === 'ctr'))(
    'NIST SP 800-38A, $section, $cipher in mode ctr, both ways',
    ({ cipher, key, iv, plaintext, ciphertext }) => {
      const start = (text: string) => Buffer.concat([Buffer.from(text, 'hex')], SECTOR_BYTES);
      const shown = (data: Buffer) => data.toString('hex', 0, plaintext.length / 2);
      const counting = counterCipher(create, cipher, Buffer.from(key, 'hex'), iv ?? '');
      const encrypted = start(plaintext);
      counting.encrypt(encrypted, 0);
      expect(shown(encrypted)).toBe(ciphertext);
      const decrypted = start(ciphertext);
      counting.decrypt(decrypted, 0);
      expect(shown(decrypted)).toBe(plaintext);
    },
  );

  test.each(['00000000000000ffffffffffffffffe5', 'ffffffffffffffffffffffffffffffff'])(
    'a counter carries through all of its 128 bits, and starts again after the last: from %s',
    (counter) => {
      const key = randomBytes(32);
      const sector = Buffer.alloc(SECTOR_BYTES);
      counterCipher(create, 'aes-256', key, counter).encrypt(sector, 0);
      const expected = createCipheriv('aes-256-ctr', key, Buffer.from(counter, 'hex')).update(
        Buffer.alloc(SECTOR_BYTES),
      );
      expect(sector.toString('hex')).toBe(expected.toString('hex'));
    },
  );
}

/** A cipher whose IV for sector 0 is `counter`, in hexadecimal. */
function counterCipher(create: CreateSectorCipher, name: CipherName, key: Uint8Array, counter: string): SectorCipher {
  const ivKey = randomBytes(32);
  const iv = createCipheriv('aes-256-ecb', ivKey, null).update(Buffer.alloc(16));
  const { cipher, memories } = withMemories(() => create({ cipher: name, mode: 'ctr', iv: 'essiv', key, ivKey }));
  const memory = memories[0]!;
  // The key is sliced: rows before columns, and bit by bit, a byte of ones for a bit in each of eight equal blocks.
  Buffer.from(counter, 'hex').forEach((byte, index) => {
    const place = (index & 3) * 4 + (index >> 2);
    for (let bit = 0; bit < 8; bit++) {
      const differs = ((byte ^ iv[index]!) >> bit) & 1;
      memory[LAST_ROUND_KEY_OF_IVS + bit * 16 + place]! ^= differs * 0xff;
    }
  });
  return cipher;
}
