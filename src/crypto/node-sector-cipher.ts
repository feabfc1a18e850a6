/**
 * Sector ciphers by Node's own AES, for the modes in which it is faster than the WASM kernels.
 *
 * `node:crypto` takes microseconds to make a cipher, so one for each sector would waste most of the time. XTS is therefore one
 * call of ECB for the first tweaks of a whole window and one for its data, before and after which WASM adds the tweaks; CBC
 * decryption is one call of ECB and a pass of unchaining. CBC encryption is a chain within each sector, and CTR is rare: they stay
 * with the kernels.
 *
 * The ECB objects are kept for the life of the cipher. OpenSSL zeroes their keys when they are finished, in `wipe`.
 */
import { createCipheriv, createDecipheriv, type Cipher, type Decipher } from 'node:crypto';
import { cipherKeys, WINDOW_BYTES } from '../kernels/cipher-contract.js';
import type { CipherMode, CipherName, CreateSectorCipher, SectorCipherOptions } from '../kernels/cipher-contract.js';
import { CipherInstance, type Pass, type Passes } from '../kernels/cipher-instance.js';
import { WindowedCipher } from '../kernels/cipher-wasm.js';

class NodeSectorCipher extends WindowedCipher {
  readonly #ciphers: readonly BlockCipher[];

  constructor(options: SectorCipherOptions) {
    const { data, tweak } = cipherKeys(options);
    const blocks = new BlockCipher(options.cipher, data);
    const tweaks = tweak && new BlockCipher(options.cipher, tweak);
    // The second window is for the first tweaks, or for the data as they were before the cipher.
    const instance = new CipherInstance(options, 2);
    super('node', instance, passesOf(options.mode, { instance, blocks, tweaks }));
    this.#ciphers = tweaks ? [blocks, tweaks] : [blocks];
  }

  override wipe(): void {
    super.wipe();
    for (const cipher of this.#ciphers) cipher.finish();
  }
}

/** ECB. */
class BlockCipher {
  readonly #encryptor: Cipher;
  readonly #decryptor: Decipher;
  #finished = false;

  constructor(cipher: CipherName, key: Uint8Array) {
    this.#encryptor = createCipheriv(`${cipher}-ecb`, key, null).setAutoPadding(false);
    this.#decryptor = createDecipheriv(`${cipher}-ecb`, key, null).setAutoPadding(false);
  }

  encrypt(data: Uint8Array): void {
    data.set(this.#encryptor.update(data));
  }

  decrypt(data: Uint8Array): void {
    data.set(this.#decryptor.update(data));
  }

  finish(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#encryptor.final();
    this.#decryptor.final();
  }
}

interface Parts {
  readonly instance: CipherInstance;
  /** With the key of the data. */
  readonly blocks: BlockCipher;
  /** With XTS's second key. */
  readonly tweaks: BlockCipher | null;
}

function passesOf(mode: CipherMode, parts: Parts): Passes {
  const { instance, blocks } = parts;
  const encrypt: Pass = (address, sectors) => blocks.encrypt(instance.view(address, sectors));
  const decrypt: Pass = (address, sectors) => blocks.decrypt(instance.view(address, sectors));
  switch (mode) {
    case 'ecb':
      return { encrypt, decrypt };
    case 'cbc':
      return { encrypt: instance.passes.encrypt, decrypt: unchained(instance, decrypt) };
    case 'ctr':
      return instance.passes;
    case 'xts':
      return { encrypt: whitened(parts, encrypt), decrypt: whitened(parts, decrypt) };
  }
}

/** `pass` of ECB as one of XTS. */
function whitened({ instance, tweaks }: Parts, pass: Pass): Pass {
  const firstTweaks = secondWindow(instance);
  return (address, sectors, firstSector) => {
    tweaks!.encrypt(instance.makeIvs(firstTweaks, sectors, firstSector));
    instance.addTweaks(address, sectors, firstTweaks);
    pass(address, sectors, firstSector);
    instance.addTweaks(address, sectors, firstTweaks);
  };
}

/** Decryption by ECB as one by CBC. */
function unchained(instance: CipherInstance, decrypt: Pass): Pass {
  const kept = secondWindow(instance);
  return (address, sectors, firstSector) => {
    instance.view(kept, sectors).set(instance.view(address, sectors));
    decrypt(address, sectors, firstSector);
    instance.unchain(address, kept, sectors, firstSector);
  };
}

function secondWindow(instance: CipherInstance): number {
  return instance.windows.byteOffset + WINDOW_BYTES;
}

/** A sector cipher that leaves the blocks to OpenSSL. Throws as `createSectorCipher` does. */
export const createNodeSectorCipher: CreateSectorCipher = (options) => new NodeSectorCipher(options);
