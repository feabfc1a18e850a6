/** Types of unpacked-kernel.mjs for the tests. */
export function packedKernel(bzImage: Buffer): Buffer;
export function withUnpackedKernel(bzImage: Buffer, elf: Buffer): Buffer;
