/**
 * zstd in WASM: the official library, compiled by the package named in `scripts/build-zstd.mjs` and inlined in the bundle.
 *
 * Compiling and instantiating are synchronous and happen once in a thread, at the first call: an image without compressed
 * clusters of this type costs nothing. The compressor's and decompressor's state and two buffers are kept in the module's
 * memory, which grows to what the largest cluster needs, a few MiB.
 *
 * The memory may move whenever the module allocates, so a view of it is made after the last allocation and never kept.
 */
import { Qcow2Error } from '../errors.js';
import { ZSTD_EXPORTS, ZSTD_IMPORTS, ZSTD_WASM_BYTES, ZSTD_WASM_DEFLATED_BASE64 } from './generated/zstd-wasm.js';
import { inlinedModule } from './inlined-module.js';

/** `ZSTD_CLEVEL_DEFAULT`, which QEMU uses. */
const LEVEL = 3;
/** zstd returns errors as small negative numbers; the names of the codes that we tell apart are from `zstd_errors.h`. */
const LOWEST_ERROR = -120;
const DESTINATION_TOO_SMALL = -70;
const PAGE_BYTES = 65536;

/** What a frame was decompressed to. */
export type Decompressed =
  | { readonly kind: 'done'; readonly length: number }
  | { readonly kind: 'too-long' }
  /** `code` is zstd's, positive. */
  | { readonly kind: 'damaged'; readonly code: number };

interface ZstdExports {
  readonly memory: WebAssembly.Memory;
  initialize(): void;
  malloc(size: number): number;
  free(address: number): void;
  createCompressor(): number;
  createDecompressor(): number;
  /** The last arguments of both are a dictionary, which is none: 0, 0. */
  compress: (...args: readonly number[]) => number;
  decompress: (...args: readonly number[]) => number;
}

export class Zstd {
  readonly #exports = instantiate();
  readonly #compressor = this.#created(this.#exports.createCompressor());
  readonly #decompressor = this.#created(this.#exports.createDecompressor());
  readonly #input = new Buffer(this.#exports);
  readonly #output = new Buffer(this.#exports);

  /** `source` as one frame, or null when that would be longer than `limit` bytes. */
  compress(source: Uint8Array, limit: number): Uint8Array<ArrayBuffer> | null {
    const [output, input] = this.#place(source, limit);
    const status = this.#exports.compress(this.#compressor, output, limit, input, source.length, 0, 0, LEVEL);
    if (status === DESTINATION_TOO_SMALL) return null;
    if (isError(status)) throw memoryError(`zstd could not compress ${source.length} bytes (error ${-status})`);
    return new Uint8Array(this.#exports.memory.buffer, output, status).slice();
  }

  /** Decompresses `frame`, exactly one frame, into the start of `target`. */
  decompress(frame: Uint8Array, target: Uint8Array): Decompressed {
    const [output, input] = this.#place(frame, target.length);
    const status = this.#exports.decompress(this.#decompressor, output, target.length, input, frame.length, 0, 0);
    if (status === DESTINATION_TOO_SMALL) return { kind: 'too-long' };
    if (isError(status)) return { kind: 'damaged', code: -status };
    target.set(new Uint8Array(this.#exports.memory.buffer, output, status));
    return { kind: 'done', length: status };
  }

  /** Copies `source` in and makes room for `outputBytes`. Returns the addresses of output and input. */
  #place(source: Uint8Array, outputBytes: number): readonly [output: number, input: number] {
    const output = this.#output.atLeast(outputBytes);
    const input = this.#input.atLeast(source.length);
    new Uint8Array(this.#exports.memory.buffer, input, source.length).set(source);
    return [output, input];
  }

  #created(address: number): number {
    if (address === 0) throw memoryError('zstd could not be started');
    return address;
  }
}

/** A piece of the module's memory that is replaced by a longer one when it has to be. */
class Buffer {
  readonly #exports: ZstdExports;
  #address = 0;
  #length = 0;

  constructor(exports: ZstdExports) {
    this.#exports = exports;
  }

  /** The address of at least `length` bytes. What was in them may be gone. */
  atLeast(length: number): number {
    if (this.#address !== 0 && length <= this.#length) return this.#address;
    this.#exports.free(this.#address);
    this.#address = this.#exports.malloc(length);
    this.#length = length;
    if (this.#address === 0) throw memoryError(`there is no memory for ${length} bytes`);
    return this.#address;
  }
}

function isError(status: number): boolean {
  return status < 0 && status >= LOWEST_ERROR;
}

function memoryError(message: string): Qcow2Error {
  return new Qcow2Error('LIMIT', message);
}

function instantiate(): ZstdExports {
  const module = compile();
  const instance = new WebAssembly.Instance(module, { a: importsFor(() => exports.memory) });
  const named = Object.entries(ZSTD_EXPORTS).map(([name, letter]) => [name, instance.exports[letter]]);
  // The build has checked that these are the exports.
  const exports = Object.fromEntries(named) as ZstdExports;
  exports.initialize();
  return exports;
}

function compile(): WebAssembly.Module {
  if (typeof WebAssembly !== 'object') throw new Qcow2Error('UNSUPPORTED', 'this host has no WebAssembly');
  const bytes = inlinedModule(ZSTD_WASM_DEFLATED_BASE64, ZSTD_WASM_BYTES);
  try {
    return new WebAssembly.Module(bytes);
  } catch (cause) {
    throw new Qcow2Error('UNSUPPORTED', 'zstd does not compile: this host forbids WebAssembly', { cause });
  }
}

/** What the module asks its host for. Of these only growing is ever called; the others belong to programs that end. */
function importsFor(memory: () => WebAssembly.Memory): Record<string, WebAssembly.ImportValue> {
  const never = (what: string) => (): never => {
    throw new Error(`internal: zstd called ${what}`);
  };
  return {
    [ZSTD_IMPORTS.abort]: never('abort'),
    [ZSTD_IMPORTS.exit]: never('exit'),
    [ZSTD_IMPORTS.setTimer]: never('setitimer'),
    [ZSTD_IMPORTS.keepAliveClear]: never('keepalive_clear'),
    [ZSTD_IMPORTS.resizeHeap]: (size: number): number => grow(memory(), size >>> 0),
  };
}

/** Grows `memory` to `size` bytes. Returns 1, or 0 when the host refuses, which malloc then reports. */
function grow(memory: WebAssembly.Memory, size: number): number {
  try {
    memory.grow(Math.ceil((size - memory.buffer.byteLength) / PAGE_BYTES));
    return 1;
  } catch {
    return 0;
  }
}
