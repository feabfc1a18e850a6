/**
 * Encryption extension: where the LUKS header and its key material lie (spec, "Full disk encryption header pointer"). It is
 * there exactly when crypt_method is 2. Pure.
 *
 *   0 offset of the area in the file (8), a cluster's start
 *   8 bytes of the area (8); its last cluster may be used in part
 */
import { Qcow2Error } from '../errors.js';
import { getUint64, setUint64, viewOf } from '../util/big-endian.js';
import { hex, isAligned } from '../util/integers.js';
import { LUKS_HEADER_BYTES } from './luks-header.js';

export interface CryptoArea {
  /** Bytes from the start of the file. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
}

const CRYPTO_EXTENSION_BYTES = 8 + 8;

/** QEMU's largest area, with keys of 64 bytes, has 2,068,480 bytes. Nothing needs more than a few times that. */
export const MAX_CRYPTO_AREA_BYTES = 16 * 1024 * 1024;

/**
 * @param data the data of the extension. That the area lies inside the file is checked where the file is at hand.
 * Throws `BAD_IMAGE`, or `LIMIT` for a number above 2^53 - 1.
 */
export function decodeCryptoExtension(data: Uint8Array, clusterSize: number): CryptoArea {
  if (data.length !== CRYPTO_EXTENSION_BYTES) {
    refuse(`the encryption extension has ${data.length} bytes; it must have ${CRYPTO_EXTENSION_BYTES}`);
  }
  const view = viewOf(data);
  const offset = getUint64(view, 0, 'the offset of the encryption header');
  const length = getUint64(view, 8, 'the length of the encryption header');
  if (!isAligned(offset, clusterSize)) {
    const limit = `it must be a multiple of the cluster size, ${hex(clusterSize)}`;
    refuse(`the offset of the encryption header is ${hex(offset)}; ${limit}`);
  }
  if (offset === 0) refuse('the offset of the encryption header is 0; the header of the image lies there');
  if (length < LUKS_HEADER_BYTES || length > MAX_CRYPTO_AREA_BYTES) {
    const limits = `${LUKS_HEADER_BYTES} to ${MAX_CRYPTO_AREA_BYTES}`;
    refuse(`the length of the encryption header is ${length}; it must be ${limits}`);
  }
  return { offset, length };
}

/** The data of the extension. */
export function encodeCryptoExtension({ offset, length }: CryptoArea): Uint8Array {
  const data = new Uint8Array(CRYPTO_EXTENSION_BYTES);
  const view = viewOf(data);
  setUint64(view, 0, offset);
  setUint64(view, 8, length);
  return data;
}

function refuse(message: string): never {
  throw new Qcow2Error('BAD_IMAGE', message);
}
