/** The WASM memories of a cipher, which it shows to nobody: recorded while it is made. */
import type { SectorCipher } from '../../src/kernels/cipher-contract.js';

export function withMemories(make: () => SectorCipher): {
  readonly cipher: SectorCipher;
  readonly memories: readonly Uint8Array[];
} {
  const memories: Uint8Array[] = [];
  const { Memory } = WebAssembly;
  WebAssembly.Memory = class extends Memory {
    constructor(descriptor: WebAssembly.MemoryDescriptor) {
      super(descriptor);
      memories.push(new Uint8Array(this.buffer));
    }
  };
  try {
    return { cipher: make(), memories };
  } finally {
    WebAssembly.Memory = Memory;
  }
}
