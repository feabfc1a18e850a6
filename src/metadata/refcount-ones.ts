/** Writes refcounts of 1 into a block that is otherwise zero (spec, "Refcount block entry"). For blocks just made. */

export function encodeOnes(block: Uint8Array, refcountOrder: number, first: number, count: number): void {
  if (refcountOrder >= 3) {
    const width = 2 ** (refcountOrder - 3);
    for (let index = first; index < first + count; index++) block[index * width + width - 1] = 1;
    return;
  }
  const bits = 2 ** refcountOrder;
  for (let index = first; index < first + count; index++) {
    block[Math.floor((index * bits) / 8)]! |= 1 << ((index * bits) % 8);
  }
}
