/** The sector cipher in WASM: the conformance suite, and what only its memory and its module can show. */
import { createCipheriv, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { CIPHER_EXPORTS } from '../../src/kernels/cipher-exports.js';
import { createSectorCipher } from '../../src/kernels/cipher-wasm.js';
import { testSectorCipherConformance } from './cipher-conformance.js';
import { functionSignatures, I64 } from './wasm-signatures.js';

testSectorCipherConformance('wasm sector cipher', createSectorCipher, 25);

/** `assembly/sector-context.ts`: what comes before the key slots, the slot of the IVs' key, and its round key 14. */
const WORK_BYTES = 1024;
const LAST_ROUND_KEY_OF_IVS = 5120 + 16 + 14 * 128;

describe('the memory of a wasm cipher', () => {
  test('holds no key as it was given, only expanded ones, and nothing of how they were expanded', () => {
    const key = randomBytes(64);
    const ivKey = randomBytes(32);
    const cipher = createSectorCipher({ cipher: 'aes-256', mode: 'xts', iv: 'essiv', key, ivKey });
    const memory = Buffer.from(cipher.window.buffer);
    for (const secret of [key.subarray(0, 32), key.subarray(32), ivKey]) {
      expect(memory.indexOf(secret.subarray(0, 16))).toBe(-1);
      expect(memory.indexOf(secret.subarray(16))).toBe(-1);
    }
    expect(memory.subarray(0, WORK_BYTES).every((byte) => byte === 0)).toBe(true);
    expect(cipher.window.every((byte) => byte === 0)).toBe(true);
  });

  test('a counter of CTR carries through all of its 128 bits, and starts again after the last', () => {
    const key = randomBytes(32);
    const ivKey = randomBytes(32);
    // No sector is known whose counter comes near a carry of 64 bits. So the IV is bent, by the last round key of what makes it.
    const iv = createCipheriv('aes-256-ecb', ivKey, null).update(Buffer.alloc(16));
    for (const wanted of ['00000000000000ffffffffffffffffe5', 'ffffffffffffffffffffffffffffffff']) {
      const cipher = createSectorCipher({ cipher: 'aes-256', mode: 'ctr', iv: 'essiv', key, ivKey });
      const memory = new Uint8Array(cipher.window.buffer);
      Buffer.from(wanted, 'hex').forEach((byte, index) => {
        const place = (index & 3) * 4 + (index >> 2);
        for (let bit = 0; bit < 8; bit++) {
          const differs = ((byte ^ iv[index]!) >> bit) & 1;
          memory[LAST_ROUND_KEY_OF_IVS + bit * 16 + place]! ^= differs * 0xff;
        }
      });
      const sector = new Uint8Array(512);
      cipher.encrypt(sector, 0);
      const expected = createCipheriv('aes-256-ctr', key, Buffer.from(wanted, 'hex')).update(new Uint8Array(512));
      expect(Buffer.from(sector).toString('hex')).toBe(expected.toString('hex'));
    }
  });
});

describe('the module', () => {
  const file = readFileSync(new URL('../../dist/kernels.wasm', import.meta.url));

  test('has no data, so no tables that could be looked up with secrets', () => {
    expect(sectionKinds(file)).toContain(10);
    expect(sectionKinds(file)).not.toContain(11);
  });

  test('has a function for each name, without a 64-bit integer in its signature', () => {
    const signatures = functionSignatures(file);
    for (const name of CIPHER_EXPORTS) {
      const { parameters = [], results = [] } = signatures.get(name) ?? {};
      expect(parameters.length, name).toBeGreaterThan(0);
      expect([...parameters, ...results], name).not.toContain(I64);
    }
  });
});

/** The kinds of sections in a module: 10 is code, 11 data. */
function sectionKinds(module: Uint8Array): number[] {
  const kinds: number[] = [];
  for (let at = 8; at < module.length;) {
    kinds.push(module[at++] ?? 0);
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = module[at++] ?? 0;
      length += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) break;
    }
    at += length;
  }
  return kinds;
}
