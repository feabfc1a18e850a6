/**
 * The kernels in WASM, the default. The sources are in `assembly/`; the module comes from `wasm-module.ts`.
 *
 * Instantiation is synchronous and cheap, one instance and one memory for each image. The memory is given its final size at
 * once (`initial` = `maximum`), so that the views never detach.
 *
 * Every function is the export itself. A call costs about 5 ns: a single refcount is read up to twice as fast in plain
 * TypeScript, a run of four L2 entries or more is already faster here (measured with `bench/kernels.ts`); neither is worth a
 * second path. Where one native entry is wanted, look at `words`.
 */
import { Qcow2Error } from '../errors.js';
import { kernelMemoryBytes } from './kernel-memory.js';
import type { Kernels, KernelsFactory } from './kernels.js';
import { type KERNEL_EXPORTS, kernelsModule } from './wasm-module.js';

const PAGE_BYTES = 0x10000;

/** What the module exports: the functions of `Kernels`. */
type KernelExports = Pick<Kernels, (typeof KERNEL_EXPORTS)[number]>;

/** Kernels of the given shape. Throws `UNSUPPORTED` without WebAssembly SIMD, `LIMIT` when the memory can't be had. */
export const wasmKernels: KernelsFactory = (shape) => {
  const module = kernelsModule();
  const memory = allocateMemory(kernelMemoryBytes(shape));
  const instance = new WebAssembly.Instance(module, { env: { memory } });
  // `loadKernels` has checked that these are the exports.
  const exports = instance.exports as unknown as KernelExports;
  return {
    ...exports,
    name: 'wasm',
    bytes: new Uint8Array(memory.buffer),
    words: new Uint32Array(memory.buffer),
  } satisfies Kernels;
};

function allocateMemory(size: number): WebAssembly.Memory {
  const pages = Math.ceil(size / PAGE_BYTES);
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages });
  } catch (cause) {
    throw new Qcow2Error('LIMIT', `the host gave no memory of ${size} bytes for the table caches`, { cause });
  }
}
