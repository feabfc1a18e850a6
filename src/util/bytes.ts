/** Bytes as a whole: all zero, all the same. Four at a time where they lie so. */

export function isZero(bytes: Uint8Array): boolean {
  const words = wordsOf(bytes, 0, bytes.length);
  for (let index = 0; index < words.length; index++) if (words[index] !== 0) return false;
  for (let index = words.byteLength; index < bytes.length; index++) if (bytes[index] !== 0) return false;
  return true;
}

/** Whether `other` has `bytes` from `from` on. */
export function equalAt(other: Uint8Array, from: number, bytes: Uint8Array): boolean {
  if (from + bytes.length > other.length) return false;
  const words = wordsOf(bytes, 0, bytes.length);
  const others = wordsOf(other, from, bytes.length);
  const count = Math.min(words.length, others.length);
  for (let index = 0; index < count; index++) if (words[index] !== others[index]) return false;
  for (let index = count * 4; index < bytes.length; index++) if (other[from + index] !== bytes[index]) return false;
  return true;
}

/** The whole words of a range; none where it does not start at one. */
function wordsOf(bytes: Uint8Array, from: number, length: number): Int32Array {
  const start = bytes.byteOffset + from;
  return start % 4 === 0 ? new Int32Array(bytes.buffer, start, length >>> 2) : new Int32Array(0);
}
