/**
 * An instance of the kernels' module that belongs to one sector cipher, so that its keys are in no memory but this:
 *
 *   0        the context: expanded keys and work area (`assembly/sector-context.ts`)
 *   0x10000  window 0: the data
 *   0x20000  window 1, if asked for: what goes with them around a host's own cipher
 *
 * The memory has its final size from the start. No secret is in it beyond what is listed, and `wipe` zeroes all of it.
 */
import { Qcow2Error } from '../errors.js';
import { assert } from '../util/assert.js';
import { cipherKeys, IV_KINDS, SECTOR_BYTES, WINDOW_BYTES, type SectorCipherOptions } from './cipher-contract.js';
import type { CipherExports } from './cipher-exports.js';
import { kernelsModule } from './wasm-module.js';

const PAGE_BYTES = 0x10000;
const CONTEXT = 0;
const FIRST_WINDOW = PAGE_BYTES;
const IV_BYTES = 16;
const TWO_TO_32 = 0x1_0000_0000;

/** Works on the sectors that lie at an address of the instance's memory, in place. */
export type Pass = (address: number, sectors: number, firstSector: number) => void;

/** The kernels for one cipher, its keys being in place. */
export interface Passes {
  readonly encrypt: Pass;
  readonly decrypt: Pass;
}

export class CipherInstance {
  /** All windows, one after the other. */
  readonly windows: Uint8Array<ArrayBuffer>;
  readonly passes: Passes;
  readonly #memory: Uint8Array<ArrayBuffer>;
  readonly #exports: CipherExports;
  readonly #iv: number;
  readonly #writeIvs: Pass;

  /**
   * Throws `BAD_ARGUMENT` when a key has the wrong length, `UNSUPPORTED` without WebAssembly SIMD, `LIMIT` when the memory
   * can't be had.
   */
  constructor(options: SectorCipherOptions, windows = 1) {
    const keys = cipherKeys(options);
    const memory = allocatePages(1 + windows);
    const instance = new WebAssembly.Instance(kernelsModule(), { env: { memory } });
    // `loadKernels` has checked that these are among the exports.
    this.#exports = instance.exports as unknown as CipherExports;
    this.#memory = new Uint8Array(memory.buffer as ArrayBuffer);
    this.windows = this.#memory.subarray(FIRST_WINDOW);
    this.#iv = IV_KINDS.indexOf(options.iv);
    [keys.data, keys.tweak, keys.iv].forEach((key, slot) => this.#setKey(slot, key));
    this.passes = this.#passesOf(options.mode);
    this.#writeIvs = this.#withIv(this.#exports.aesIvs);
  }

  /** The bytes of `sectors` sectors at an address. */
  view(address: number, sectors: number): Uint8Array<ArrayBuffer> {
    return this.#memory.subarray(address, address + sectors * SECTOR_BYTES);
  }

  /** Writes the IVs of the sectors to an address, where there is room for as much as the sectors take. Returns them. */
  makeIvs(address: number, sectors: number, firstSector: number): Uint8Array<ArrayBuffer> {
    this.#writeIvs(address, sectors, firstSector);
    return this.#memory.subarray(address, address + sectors * IV_BYTES);
  }

  /** XTS without the cipher: adds to the sectors their tweaks, which follow from the first one of each, 16 bytes at `firstTweaks`. */
  addTweaks(address: number, sectors: number, firstTweaks: number): void {
    this.#exports.addSectorTweaks(address, sectors, firstTweaks);
  }

  /** CBC without the cipher: adds to each block at `plain` the block of `cipher` before it, or the IV. */
  unchain(plain: number, cipher: number, sectors: number, firstSector: number): void {
    const [low, high] = words(firstSector);
    this.#exports.aesCbcUnchain(CONTEXT, plain, cipher, sectors, low, high, this.#iv);
  }

  wipe(): void {
    this.#memory.fill(0);
  }

  /** The key passes through the window, and is wiped there. */
  #setKey(slot: number, key: Uint8Array | null): void {
    if (key === null) return;
    this.windows.set(key);
    this.#exports.aesSetKey(CONTEXT, slot, FIRST_WINDOW, key.length);
    this.windows.fill(0, 0, key.length);
  }

  #passesOf(mode: SectorCipherOptions['mode']): Passes {
    const exports = this.#exports;
    switch (mode) {
      case 'ecb':
        return {
          encrypt: (address, sectors) => exports.aesEcbEncrypt(CONTEXT, address, sectors),
          decrypt: (address, sectors) => exports.aesEcbDecrypt(CONTEXT, address, sectors),
        };
      case 'cbc':
        return { encrypt: this.#withIv(exports.aesCbcEncrypt), decrypt: this.#withIv(exports.aesCbcDecrypt) };
      case 'ctr':
        return { encrypt: this.#withIv(exports.aesCtr), decrypt: this.#withIv(exports.aesCtr) };
      case 'xts':
        return { encrypt: this.#withIv(exports.aesXtsEncrypt), decrypt: this.#withIv(exports.aesXtsDecrypt) };
    }
  }

  #withIv(run: CipherExports['aesCtr']): Pass {
    const iv = this.#iv;
    return (address, sectors, firstSector) => {
      const [low, high] = words(firstSector);
      run(CONTEXT, address, sectors, low, high, iv);
    };
  }
}

/** A sector's number as two words of 32 bits. */
function words(sector: number): readonly [low: number, high: number] {
  return [sector % TWO_TO_32, Math.floor(sector / TWO_TO_32)];
}

function allocatePages(pages: number): WebAssembly.Memory {
  assert(WINDOW_BYTES === PAGE_BYTES, 'a window is a page');
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages });
  } catch (cause) {
    throw new Qcow2Error('LIMIT', `the host gave no memory of ${pages} pages for a cipher`, { cause });
  }
}
