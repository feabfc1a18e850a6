/** `qcow2-wasm/node`: the engine with storage in files of the host. */
export * from './index.js';
export { NodeFileStorage, type NodeFileOptions } from './storage/node-file.js';
export { createNodeSectorCipher } from './crypto/node-sector-cipher.js';
