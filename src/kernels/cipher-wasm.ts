/**
 * The sector cipher over an instance of the kernels: data go through its window, 64 KiB a call.
 */
import { Qcow2Error } from '../errors.js';
import { countSectors, SECTOR_BYTES, WINDOW_BYTES } from './cipher-contract.js';
import type { CreateSectorCipher, SectorCipher } from './cipher-contract.js';
import { CipherInstance, type Pass, type Passes } from './cipher-instance.js';

const WINDOW_SECTORS = WINDOW_BYTES / SECTOR_BYTES;

export class WindowedCipher implements SectorCipher {
  readonly name: SectorCipher['name'];
  readonly #window: Uint8Array<ArrayBuffer>;
  readonly #instance: CipherInstance;
  readonly #passes: Passes;
  #wiped = false;

  /** `passes` may be the instance's own. */
  constructor(name: SectorCipher['name'], instance: CipherInstance, passes: Passes) {
    this.name = name;
    this.#window = instance.windows.subarray(0, WINDOW_BYTES);
    this.#instance = instance;
    this.#passes = passes;
  }

  encrypt(data: Uint8Array, firstSector: number): void {
    this.#run(this.#passes.encrypt, data, firstSector);
  }

  decrypt(data: Uint8Array, firstSector: number): void {
    this.#run(this.#passes.decrypt, data, firstSector);
  }

  wipe(): void {
    this.#wiped = true;
    this.#instance.wipe();
  }

  #run(pass: Pass, data: Uint8Array, firstSector: number): void {
    if (this.#wiped) throw new Qcow2Error('CLOSED', 'the keys of this disk were wiped when it was closed');
    const sectors = countSectors(data, firstSector);
    for (let done = 0; done < sectors; done += WINDOW_SECTORS) {
      const count = Math.min(WINDOW_SECTORS, sectors - done);
      const part = data.subarray(done * SECTOR_BYTES, (done + count) * SECTOR_BYTES);
      const window = this.#window.subarray(0, part.length);
      window.set(part);
      pass(window.byteOffset, count, firstSector + done);
      part.set(window);
    }
  }
}

/** The default: AES in WASM, bitsliced, in constant time. Throws as `CipherInstance` does. */
export const createSectorCipher: CreateSectorCipher = (options) => {
  const instance = new CipherInstance(options);
  return new WindowedCipher('wasm', instance, instance.passes);
};
