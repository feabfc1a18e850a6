/**
 * Encrypted guest data: sectors of 512 bytes, each encrypted for itself with a number that follows from where it lies.
 *
 *   LUKS          the sector's number in the file    (`host`)
 *   legacy AES    the sector's number on the disk    (`guest`)
 *
 * A range that covers a sector in part reads and writes the whole sector.
 */
import type { GuestOffset, HostOffset } from '../disk.js';
import { SECTOR_BYTES } from '../format/limits.js';
import type { GuestData } from '../storage/guest-data.js';
import type { Storage } from '../storage/storage.js';
import { alignDown, alignUp } from '../util/integers.js';
import type { SectorCipher } from '../kernels/cipher-contract.js';

/** Which number a sector is encrypted with. */
export type SectorNumbering = 'host' | 'guest';

/** Bytes encrypted in one piece. */
const PIECE_BYTES = 256 * 1024;

export class EncryptedData implements GuestData {
  readonly encrypted = true;
  readonly #storage: Storage;
  readonly #cipher: SectorCipher;
  readonly #numbering: SectorNumbering;

  constructor(storage: Storage, cipher: SectorCipher, numbering: SectorNumbering) {
    this.#storage = storage;
    this.#cipher = cipher;
    this.#numbering = numbering;
  }

  get boundToGuestOffset(): boolean {
    return this.#numbering === 'guest';
  }

  /** Throws `CLOSED` once the key is wiped, which the cipher tells of before it looks at any sector. */
  checkKey(): void {
    this.#cipher.encrypt(new Uint8Array(0), 0);
  }

  read(host: HostOffset, target: Uint8Array, guest: GuestOffset): void {
    const start = alignDown(host, SECTOR_BYTES);
    const end = alignUp(host + target.length, SECTOR_BYTES);
    if (start === host && end === host + target.length) {
      this.#readSectors(host, target, guest);
      return;
    }
    const sectors = new Uint8Array(end - start);
    this.#readSectors(start, sectors, guest - (host - start));
    target.set(sectors.subarray(host - start, host - start + target.length));
  }

  write(host: HostOffset, source: Uint8Array, guest: GuestOffset): void {
    for (let done = 0; done < source.length;) {
      const at = host + done;
      const stop = Math.min(host + source.length, alignDown(at, SECTOR_BYTES) + PIECE_BYTES);
      this.#writePiece(at, source.subarray(done, stop - host), guest + done);
      done = stop - host;
    }
  }

  /** Reads what it covers in part before it writes anything. */
  #writePiece(host: HostOffset, source: Uint8Array, guest: GuestOffset): void {
    const start = alignDown(host, SECTOR_BYTES);
    const end = alignUp(host + source.length, SECTOR_BYTES);
    const offset = host - start;
    const sectors = new Uint8Array(end - start);
    const read = (at: number): void =>
      this.#readSectors(start + at, sectors.subarray(at, at + SECTOR_BYTES), guest - offset + at);
    const last = sectors.length - SECTOR_BYTES;
    if (offset > 0) read(0);
    if (end > host + source.length && (last > 0 || offset === 0)) read(last);
    sectors.set(source, offset);
    this.#cipher.encrypt(sectors, this.#sector(start, guest - offset));
    this.#storage.announce?.('write_aio');
    this.#storage.write(start, sectors);
  }

  #readSectors(host: HostOffset, target: Uint8Array, guest: GuestOffset): void {
    this.#storage.announce?.('read_aio');
    this.#storage.read(host, target);
    this.#cipher.decrypt(target, this.#sector(host, guest));
  }

  #sector(host: HostOffset, guest: GuestOffset): number {
    return (this.#numbering === 'host' ? host : guest) / SECTOR_BYTES;
  }
}
