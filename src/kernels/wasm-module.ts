/**
 * Where the WASM kernels come from: by default bytes inlined in the bundle, so that one import is enough and nothing has to
 * be configured; or the file `kernels.wasm` next to it, given to `loadKernels` before the first image is opened.
 *
 * The module is compiled once in a thread and kept. Nothing is compiled before it is needed.
 */
import { Qcow2Error } from '../errors.js';
import { CIPHER_EXPORTS } from './cipher-exports.js';
import { KERNELS_WASM_BYTES, KERNELS_WASM_DEFLATED_BASE64 } from './generated/kernels-wasm.js';
import { inlinedModule } from './inlined-module.js';

/** The functions the module exports for tables; `Kernels` has their signatures. */
export const KERNEL_EXPORTS = [
  'swap64',
  'l2RunLength',
  'l2FillRun',
  'refcountGet',
  'refcountSet',
  'refcountAdd',
  'refcountFreeLength',
  'refcountUsedLength',
] as const;

/** An address to fetch, what a fetch answered, or the bytes themselves. */
type KernelsFile = URL | string | Response | BufferSource;

/** What `loadKernels` takes: the file, or a module compiled elsewhere. */
export type KernelsSource = KernelsFile | WebAssembly.Module;

let compiled: WebAssembly.Module | undefined;

/**
 * The module in use, compiled from the inlined bytes if none was loaded. Throws `UNSUPPORTED` on a host without
 * WebAssembly SIMD.
 */
export function kernelsModule(): WebAssembly.Module {
  compiled ??= compileInlined();
  return compiled;
}

/**
 * Compiles the given `kernels.wasm` and makes it the one that images opened from now on use. Rejects with `NOT_FOUND` or
 * `IO` when it can't be fetched, `BAD_ARGUMENT` when it is not our kernels, `UNSUPPORTED` on a host without WebAssembly SIMD.
 */
export async function loadKernels(source: KernelsSource): Promise<void> {
  requireWebAssembly();
  const module = source instanceof WebAssembly.Module ? source : await compile(await bytesOf(source as KernelsFile));
  requireOurExports(module);
  compiled = module;
}

function compileInlined(): WebAssembly.Module {
  requireWebAssembly();
  const bytes = inlinedModule(KERNELS_WASM_DEFLATED_BASE64, KERNELS_WASM_BYTES);
  try {
    return new WebAssembly.Module(bytes);
  } catch (cause) {
    // The bytes are ours and valid: what fails is the host.
    throw new Qcow2Error('UNSUPPORTED', 'the kernels do not compile: this host lacks WebAssembly SIMD or forbids it', {
      cause,
    });
  }
}

async function compile(bytes: BufferSource): Promise<WebAssembly.Module> {
  try {
    return await WebAssembly.compile(bytes);
  } catch (cause) {
    if (!WebAssembly.validate(SIMD_PROBE)) {
      throw new Qcow2Error('UNSUPPORTED', 'the kernels do not compile: this host lacks WebAssembly SIMD', { cause });
    }
    throw new Qcow2Error('BAD_ARGUMENT', `the ${bytes.byteLength} bytes given are no WebAssembly module`, { cause });
  }
}

async function bytesOf(source: KernelsFile): Promise<BufferSource> {
  if (typeof source !== 'string' && !(source instanceof URL) && !(source instanceof Response)) return source;
  try {
    const response = source instanceof Response ? source : await fetch(source);
    if (!response.ok) {
      const code = response.status === 404 ? 'NOT_FOUND' : 'IO';
      throw new Qcow2Error(code, `the kernels could not be fetched from ${response.url}: status ${response.status}`);
    }
    return await response.arrayBuffer();
  } catch (cause) {
    if (cause instanceof Qcow2Error) throw cause;
    const address = source instanceof Response ? source.url : String(source);
    throw new Qcow2Error('IO', `the kernels could not be fetched from ${address}`, { cause });
  }
}

function requireWebAssembly(): void {
  if (typeof WebAssembly === 'object') return;
  throw new Qcow2Error('UNSUPPORTED', 'this host has no WebAssembly');
}

function requireOurExports(module: WebAssembly.Module): void {
  const exported = new Set(WebAssembly.Module.exports(module).map(({ name }) => name));
  const missing = [...KERNEL_EXPORTS, ...CIPHER_EXPORTS].filter((name) => !exported.has(name));
  if (missing.length === 0) return;
  throw new Qcow2Error('BAD_ARGUMENT', `the module is not this version's kernels: it lacks ${missing.join(', ')}`);
}

/** The smallest module with a SIMD instruction: one function that returns `i8x16.splat(0)`'s any_true. */
const SIMD_PROBE = Uint8Array.of(
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00], // "\0asm", version 1
  ...[0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7f], // one type: () -> i32
  ...[0x03, 0x02, 0x01, 0x00], // one function of that type
  ...[0x0a, 0x0a, 0x01, 0x08, 0x00], // its body, 8 bytes, no locals
  ...[0x41, 0x00, 0xfd, 0x0f, 0xfd, 0x53, 0x0b], // i32.const 0; i8x16.splat; v128.any_true; end
);
