/**
 * Bytes that nobody else may know, or can guess. What JavaScript lets one do for them: they are kept in arrays of their own, never in
 * strings, and overwritten after use. Copies inside WebCrypto are out of reach.
 */

/** WebCrypto gives no more at once. */
const MAX_RANDOM_BYTES = 65536;

/** Fills `target`, of any length, with bytes fit for keys. */
export function fillRandom(target: Uint8Array<ArrayBuffer>): void {
  for (let at = 0; at < target.length; at += MAX_RANDOM_BYTES) {
    globalThis.crypto.getRandomValues(target.subarray(at, at + MAX_RANDOM_BYTES));
  }
}

export function randomBytes(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  fillRandom(bytes);
  return bytes;
}

/** A UUID of version 4 (RFC 9562, section 5.4). `crypto.randomUUID` is there in secure contexts only. */
export function randomUuid(): string {
  const bytes = randomBytes(16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x40;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** Overwrites secrets that are no longer needed. */
export function wipe(...secrets: readonly (Uint8Array | null | undefined)[]): void {
  for (const secret of secrets) secret?.fill(0);
}

/** Whether two digests are the same, in a time that does not tell where they differ. */
export function sameDigest(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let index = 0; index < a.length; index++) difference |= a[index]! ^ b[index]!;
  return difference === 0;
}
