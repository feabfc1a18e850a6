import { describe, expect, it } from 'vitest';
import { decodeCryptoExtension, encodeCryptoExtension } from '../../src/format/crypto-extension.js';
import { refusal } from '../crypto/luks-volumes.js';

/** As in an image of QEMU's defaults. */
const AREA = { offset: 0x4_0000, length: 0x1f_9000 };

describe('the encryption extension', () => {
  it('holds the offset and the length of the header area, big endian', () => {
    const data = encodeCryptoExtension(AREA);
    expect(Buffer.from(data).toString('hex')).toBe('000000000004000000000000001f9000');
    expect(decodeCryptoExtension(data, 65536)).toEqual(AREA);
  });

  it('keeps places above 4 GiB', () => {
    const far = { offset: 2 ** 45, length: 600 };
    expect(decodeCryptoExtension(encodeCryptoExtension(far), 512)).toEqual(far);
  });

  it.each([
    ['15 bytes', new Uint8Array(15), /^BAD_IMAGE: the encryption extension has 15 bytes; it must have 16/],
    ['24 bytes', new Uint8Array(24), /^BAD_IMAGE: the encryption extension has 24 bytes; it must have 16/],
    ['an unaligned offset', encodeCryptoExtension({ ...AREA, offset: 0x4_0200 }), /is 0x40200; .* 0x10000$/],
    ['offset 0', encodeCryptoExtension({ ...AREA, offset: 0 }), /is 0; the header of the image lies there$/],
    ['a length below a header', encodeCryptoExtension({ ...AREA, length: 591 }), /is 591; it must be 592 to 16777216/],
    ['a length beyond need', encodeCryptoExtension({ ...AREA, length: 2 ** 24 + 1 }), /is 16777217; it must be 592/],
    ['an offset above 2^53', new Uint8Array(16).fill(0xff), /^LIMIT: the offset of the encryption header is 0xf+/],
  ])('is refused for %s', (_, data, message) => {
    expect(refusal(() => decodeCryptoExtension(data, 65536))).toMatch(message);
  });
});
