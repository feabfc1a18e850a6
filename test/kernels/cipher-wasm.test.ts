/** The sector cipher in WASM: the conformance suite, and what only its memory and its module can show. */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { CIPHER_EXPORTS } from '../../src/kernels/cipher-exports.js';
import { createSectorCipher } from '../../src/kernels/cipher-wasm.js';
import { testSectorCipherConformance } from './cipher-conformance.js';
import { testCounters } from './cipher-counters.js';
import { withMemories } from './recorded-memory.js';
import { functionSignatures, I64 } from './wasm-signatures.js';

testSectorCipherConformance('wasm sector cipher', createSectorCipher, 25);

/** `assembly/sector-context.ts`: what comes before the key slots. */
const WORK_BYTES = 1024;

/** `cipher-instance.ts` */
const FIRST_WINDOW = 0x10000;

describe('the memory of a wasm cipher', () => {
  test('holds no key as it was given, only expanded ones, and nothing of how they were expanded', () => {
    const key = randomBytes(64);
    const ivKey = randomBytes(32);
    const { memories } = withMemories(() =>
      createSectorCipher({ cipher: 'aes-256', mode: 'xts', iv: 'essiv', key, ivKey }),
    );
    expect(memories).toHaveLength(1);
    const memory = Buffer.from(memories[0]!.buffer);
    for (const secret of [key.subarray(0, 32), key.subarray(32), ivKey]) {
      expect(memory.indexOf(secret.subarray(0, 16))).toBe(-1);
      expect(memory.indexOf(secret.subarray(16))).toBe(-1);
    }
    expect(memory.subarray(0, WORK_BYTES).every((byte) => byte === 0)).toBe(true);
    expect(memory.subarray(FIRST_WINDOW).every((byte) => byte === 0)).toBe(true);
  });
});

describe('the counters of a wasm cipher', () => {
  testCounters(createSectorCipher);
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
