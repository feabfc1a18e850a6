/**
 * The second judge of the sector ciphers: `node:crypto`, one sector at a time, with IVs made here by the letter of
 * `cipher-contract.ts`.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import type { SectorCipherOptions } from '../../src/kernels/cipher-contract.js';

const SECTOR_BYTES = 512;
const BLOCK_BYTES = 16;

/** `data` encrypted or decrypted, as an array of its own. */
export function oracle(
  options: SectorCipherOptions,
  direction: 'encrypt' | 'decrypt',
  data: Uint8Array,
  firstSector: number,
): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0; at < data.length; at += SECTOR_BYTES) {
    const sector = BigInt(firstSector) + BigInt(at / SECTOR_BYTES);
    parts.push(oneSector(options, direction, data.subarray(at, at + SECTOR_BYTES), ivOf(options, sector)));
  }
  return Buffer.concat(parts);
}

function oneSector(
  options: SectorCipherOptions,
  direction: 'encrypt' | 'decrypt',
  data: Uint8Array,
  iv: Buffer,
): Buffer {
  const { cipher, mode, key } = options;
  // OpenSSL has no XTS with AES-192, and none that encrypts with two equal keys.
  const half = key.length / 2;
  const equalKeys = mode === 'xts' && Buffer.compare(key.subarray(0, half), key.subarray(half)) === 0;
  if (mode === 'xts' && (cipher === 'aes-192' || equalKeys)) return xtsOfEcb(options, direction, data, iv);
  return run(`${cipher}-${mode}`, direction, key, { iv: mode === 'ecb' ? null : iv, data });
}

function run(
  name: string,
  direction: 'encrypt' | 'decrypt',
  key: Uint8Array,
  { iv, data }: { iv: Buffer | null; data: Uint8Array },
): Buffer {
  const cipher = direction === 'encrypt' ? createCipheriv(name, key, iv) : createDecipheriv(name, key, iv);
  cipher.setAutoPadding(false);
  return Buffer.concat([cipher.update(data), cipher.final()]);
}

/** IEEE 1619, section 5.3, over ECB; numbers of 128 bits as BigInt. */
function xtsOfEcb(
  { cipher, key }: SectorCipherOptions,
  direction: 'encrypt' | 'decrypt',
  data: Uint8Array,
  iv: Buffer,
): Buffer {
  const half = key.length / 2;
  const ecb = (from: Uint8Array, which: Uint8Array, way: 'encrypt' | 'decrypt') =>
    run(`${cipher}-ecb`, way, which, { iv: null, data: from });
  let tweak = toNumber(ecb(iv, key.subarray(half), 'encrypt'));
  const tweaks = Buffer.alloc(data.length);
  for (let at = 0; at < data.length; at += BLOCK_BYTES) {
    toBytes(tweak).copy(tweaks, at);
    tweak <<= 1n;
    if (tweak >> 128n) tweak = BigInt.asUintN(128, tweak) ^ 0x87n;
  }
  return sum(ecb(sum(data, tweaks), key.subarray(0, half), direction), tweaks);
}

function ivOf(options: SectorCipherOptions, sector: bigint): Buffer {
  const iv = toBytes(options.iv === 'plain' ? BigInt.asUintN(32, sector) : sector);
  if (options.iv !== 'essiv') return iv;
  const { ivKey } = options;
  return run(`aes-${ivKey.length * 8}-ecb`, 'encrypt', ivKey, { iv: null, data: iv });
}

/** Exclusive or. */
export function sum(a: Uint8Array, b: Uint8Array): Buffer {
  return Buffer.from(a.map((byte, index) => byte ^ (b[index] ?? 0)));
}

/** 16 bytes, little endian. */
function toBytes(value: bigint): Buffer {
  return Buffer.from(value.toString(16).padStart(32, '0'), 'hex').reverse();
}

function toNumber(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);
}
