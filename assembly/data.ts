/**
 * Guest data: is it zero, and how far are two ranges equal. No alignment is needed; SIMD loads take any address.
 */

/** Whether `length` bytes at `address` are all zero. */
export function isZero(address: usize, length: u32): bool {
  const end = address + length;
  while (address + 64 <= end) {
    const first = v128.or(v128.load(address), v128.load(address, 16));
    const second = v128.or(v128.load(address, 32), v128.load(address, 48));
    if (v128.any_true(v128.or(first, second))) return false;
    address += 64;
  }
  while (address + 8 <= end) {
    if (load<u64>(address) != 0) return false;
    address += 8;
  }
  while (address < end) {
    if (load<u8>(address) != 0) return false;
    address += 1;
  }
  return true;
}

/** The number of equal bytes at the start of two ranges of `length` bytes. */
export function equalLength(a: usize, b: usize, length: u32): u32 {
  let done: u32 = 0;
  while (done + 16 <= length) {
    const equal: u32 = i8x16.bitmask(i8x16.eq(v128.load(a + done), v128.load(b + done)));
    if (equal != 0xffff) return done + ctz<u32>(~equal);
    done += 16;
  }
  while (done < length && load<u8>(a + done) == load<u8>(b + done)) done += 1;
  return done;
}
