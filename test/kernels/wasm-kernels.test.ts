/** The WASM kernels: the conformance suite, and the rules of the boundary. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { CIPHER_EXPORTS } from '../../src/kernels/cipher-exports.js';
import { wasmKernels } from '../../src/kernels/index.js';
import { KERNEL_EXPORTS, kernelsModule } from '../../src/kernels/wasm-module.js';
import { functionSignatures, I64 } from './wasm-signatures.js';
import { testKernelsConformance } from './conformance.js';

testKernelsConformance('wasm kernels', wasmKernels);

const WASM_FILE = new URL('../../dist/kernels.wasm', import.meta.url);

test('the module exports the kernels and nothing else, so no memory and no state', () => {
  const exported = WebAssembly.Module.exports(kernelsModule());
  expect(exported.map(({ name }) => name).toSorted()).toEqual([...KERNEL_EXPORTS, ...CIPHER_EXPORTS].toSorted());
  expect(exported.every(({ kind }) => kind === 'function')).toBe(true);
});

test('the module imports its memory and nothing else', () => {
  expect(WebAssembly.Module.imports(kernelsModule())).toEqual([{ module: 'env', name: 'memory', kind: 'memory' }]);
});

test('no signature has a 64-bit integer, which would cross the boundary as a BigInt', () => {
  const signatures = functionSignatures(readFileSync(WASM_FILE));
  for (const name of KERNEL_EXPORTS) {
    const signature = signatures.get(name);
    expect(signature, name).toBeDefined();
    expect([...(signature?.parameters ?? []), ...(signature?.results ?? [])], name).not.toContain(I64);
  }
});

test('the module is a few kilobytes, small enough to be inlined', () => {
  expect(readFileSync(WASM_FILE).byteLength).toBeLessThan(24 * 1024);
});
