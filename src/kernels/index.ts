/** The kernels: one contract, the WASM implementation, and its twin in plain TypeScript. */
export { SCRATCH_BYTES, type Kernels, type KernelsFactory } from './kernels.js';
export { referenceKernels } from './reference-kernels.js';
export { wasmKernels } from './wasm-kernels.js';
export { loadKernels, type KernelsSource } from './wasm-module.js';
export { createSectorCipher } from './cipher-wasm.js';
