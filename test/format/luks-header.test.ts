import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isQcow2Error } from '../../src/index.js';
import {
  KEY_SLOTS,
  LUKS_HEADER_BYTES,
  decodeLuksHeader,
  encodeLuksHeader,
  keySlotAt,
  materialSectors,
  newMaterialSector,
  type LuksHeader,
} from '../../src/format/luks-header.js';
import { refusal } from '../crypto/luks-volumes.js';

/** Of QEMU's default, AES-256 in XTS. */
const AREA_BYTES = 4040 * 512;

const GOOD: LuksHeader = {
  cipherName: 'aes',
  cipherMode: 'xts-plain64',
  hash: 'sha256',
  payloadSector: 4040,
  keyBytes: 64,
  keyDigest: new Uint8Array(20).fill(0xd1),
  keyDigestSalt: new Uint8Array(32).fill(0xd2),
  keyDigestIterations: 250_000,
  uuid: '5fdd68de-3f0d-4833-883e-038afc80e8da',
  slots: Array.from({ length: KEY_SLOTS }, (_, index) => ({
    active: index === 0,
    iterations: index === 0 ? 2_000_000 : 0,
    salt: new Uint8Array(32).fill(index === 0 ? 0x5a : 0),
    materialSector: 8 + 504 * index,
  })),
};

/** A good header with `bytes` put at `at`. */
function damaged(at: number, ...bytes: number[]): Uint8Array {
  const header = encodeLuksHeader(GOOD);
  header.set(bytes, at);
  return header;
}

const text = (name: string): number[] => [...Buffer.from(name, 'latin1')];
const number = (value: number): number[] => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];

describe('a LUKS header', () => {
  it('has its fields where the specification puts them', () => {
    const bytes = Buffer.from(encodeLuksHeader(GOOD));
    expect(bytes.length).toBe(592);
    expect(bytes.toString('latin1', 0, 6)).toBe('LUKS\xba\xbe');
    expect(bytes.readUInt16BE(6)).toBe(1);
    expect(bytes.toString('latin1', 8, 12)).toBe('aes\0');
    expect(bytes.toString('latin1', 40, 52)).toBe('xts-plain64\0');
    expect(bytes.toString('latin1', 72, 79)).toBe('sha256\0');
    expect([104, 108, 164].map((at) => bytes.readUInt32BE(at))).toEqual([4040, 64, 250_000]);
    expect([bytes[112], bytes[131], bytes[132], bytes[163]]).toEqual([0xd1, 0xd1, 0xd2, 0xd2]);
    expect(bytes.toString('latin1', 168, 204)).toBe(GOOD.uuid);
    expect([208, 212, 248, 252].map((at) => bytes.readUInt32BE(at))).toEqual([0x00ac71f3, 2_000_000, 8, 4000]);
    expect([256, 260, 296, 300].map((at) => bytes.readUInt32BE(at))).toEqual([0x0000dead, 0, 512, 4000]);
    expect(keySlotAt(7) + 48).toBe(LUKS_HEADER_BYTES);
  });

  it('reads as it was written', () => {
    expect(decodeLuksHeader(encodeLuksHeader(GOOD), AREA_BYTES)).toEqual(GOOD);
  });

  it.each([
    [16, 125, 8 + 128, 1032],
    [32, 250, 8 + 256, 2056],
    [48, 375, 8 + 376, 3016],
    [64, 500, 8 + 504, 4040],
  ])(
    'for a key of %i bytes has %i sectors of material a slot, laid out as by QEMU',
    (keyBytes, sectors, second, payload) => {
      expect(materialSectors(keyBytes)).toBe(sectors);
      expect(newMaterialSector(0, keyBytes)).toBe(8);
      expect(newMaterialSector(1, keyBytes)).toBe(second);
      expect(newMaterialSector(KEY_SLOTS, keyBytes)).toBe(payload);
    },
  );

  it('may have a uuid that fills its field', () => {
    expect(decodeLuksHeader(damaged(168, ...text('u'.repeat(40))), AREA_BYTES).uuid).toBe('u'.repeat(40));
  });

  it('may have been written by whoever leaves something behind the end of a name', () => {
    expect(decodeLuksHeader(damaged(72, ...text('sha1\0junk')), AREA_BYTES).hash).toBe('sha1');
  });
});

const REFUSED: readonly [string, number, number[], RegExp][] = [
  ['another magic', 0, [0x58], /^BAD_IMAGE: .*the first six bytes are not "LUKS\\xba\\xbe"/],
  ['version 2', 6, [0, 2], /^UNSUPPORTED: the LUKS version is 2; only version 1/],
  ['a cipher name without an end', 8, text('a'.repeat(32)), /^BAD_IMAGE: the cipher name .* within its 32 bytes/],
  ['a cipher mode without an end', 40, text('x'.repeat(32)), /^BAD_IMAGE: the cipher mode .* within its 32 bytes/],
  ['a hash without an end', 72, text('s'.repeat(32)), /^BAD_IMAGE: the hash .* within its 32 bytes/],
  ['a payload inside the header', 104, number(7), /^BAD_IMAGE: the LUKS payload begins at sector 7; .* 8 or more/],
  ['a payload inside the material', 104, number(4035), /slot 7 is sectors 3536 to 4036; .* sector 4035$/],
  ['a key of no bytes', 108, number(0), /^BAD_IMAGE: the LUKS key has 0 bytes; it must have 1 to 64/],
  ['a key of 65 bytes', 108, number(65), /^BAD_IMAGE: the LUKS key has 65 bytes/],
  ['a key of 4 GiB', 108, number(0xffff_ffff), /^BAD_IMAGE: the LUKS key has 4294967295 bytes/],
  ['a digest without iterations', 164, number(0), /^BAD_IMAGE: the iterations of the LUKS key digest are 0/],
  ['an active slot without iterations', 212, number(0), /^BAD_IMAGE: the iterations of LUKS key slot 0 are 0/],
  [
    'a slot that is neither active nor not',
    352,
    number(1),
    /^BAD_IMAGE: the state of LUKS key slot 3 is 0x1; .* 0xac71f3/,
  ],
  ['a slot of one stripe', 252, number(1), /^BAD_IMAGE: the stripes of LUKS key slot 0 are 1; they must be 4000/],
  ['an empty slot of 4 billion stripes', 492, number(0xffff_ffff), /key slot 5 are 4294967295; they must be 4000/],
  ['material inside the header', 248, number(7), /^BAD_IMAGE: the material of LUKS key slot 0 is sectors 7 to 507; /],
  ['material behind the area', 584, number(0xffff_ffff), /slot 7 is sectors 4294967295 to 4294967795; .* sector 4040$/],
  ['slots with one place', 296, number(1016), /^BAD_IMAGE: the material of LUKS key slots 1 and 2 overlaps/],
  [
    'slots that share a sector',
    296,
    number(517),
    /slots 1 and 2 overlaps: it begins at sector 517 and 1016, and takes 500/,
  ],
];

describe('a LUKS header is refused, with field, value and limit, for', () => {
  it.each(REFUSED)('%s', (_, at, bytes, message) => {
    expect(refusal(() => decodeLuksHeader(damaged(at, ...bytes), AREA_BYTES))).toMatch(message);
  });

  it('being cut short', () => {
    const bytes = encodeLuksHeader(GOOD).subarray(0, 591);
    expect(refusal(() => decodeLuksHeader(bytes, AREA_BYTES))).toMatch(/^BAD_IMAGE: .* has 591 bytes, it needs 592/);
  });

  it('an area that ends before its material does', () => {
    const message = refusal(() => decodeLuksHeader(encodeLuksHeader(GOOD), AREA_BYTES - 4 * 512 - 1));
    expect(message).toMatch(/^BAD_IMAGE: the material of LUKS key slot 7 .* sector 4035$/);
  });

  it('nothing else: whatever its bytes, it is decoded or refused with one of our errors', () => {
    const edits = fc.array(fc.tuple(fc.nat(LUKS_HEADER_BYTES - 4), fc.uint8Array({ minLength: 1, maxLength: 4 })));
    fc.assert(
      fc.property(edits, (list) => {
        const bytes = encodeLuksHeader(GOOD);
        for (const [at, change] of list) bytes.set(change, at);
        try {
          const { keyBytes, slots } = decodeLuksHeader(bytes, AREA_BYTES);
          expect(slots.every(({ materialSector }) => materialSector * 512 + keyBytes * 4000 <= AREA_BYTES)).toBe(true);
        } catch (error) {
          if (!isQcow2Error(error)) throw error;
        }
      }),
    );
  });
});
