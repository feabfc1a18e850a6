/** The kernel file of the guest, byte by byte. That a machine boots it, test/v86/guest.test.ts sees. */
import { describe, expect, test } from 'vitest';
import { packedKernel, withUnpackedKernel } from '../../demo/guest/unpacked-kernel.mjs';

const SETUP_BYTES = 3 * 512;
const MOVER_BYTES = 64;
const PACKED = Buffer.from('packed kernel');

/** A kernel's file: two sectors of setup code after the first, a stub of 20 bytes, what is packed, and what unpacks it. */
function bzImage({ magic = 'HdrS', version = 0x20f, packedLength = PACKED.length } = {}): Buffer {
  const setup = Buffer.alloc(SETUP_BYTES, 0xaa);
  setup[0x1f1] = 2;
  setup.writeUInt32LE(9999, 0x1f4);
  setup.write(magic, 0x202);
  setup.writeUInt16LE(version, 0x206);
  setup.writeUInt32LE(20, 0x248);
  setup.writeUInt32LE(packedLength, 0x24c);
  return Buffer.concat([setup, Buffer.alloc(20, 0xbb), PACKED, Buffer.alloc(50, 0xcc)]);
}

interface Segment {
  readonly type?: number;
  readonly physical: number;
  readonly text: string;
}

function elf(segments: readonly Segment[], entry = 0x1000010): Buffer {
  const header = Buffer.alloc(52);
  header.write('\x7fELF', 'latin1');
  header.writeUInt32LE(entry, 24);
  header.writeUInt32LE(52, 28);
  header.writeUInt16LE(32, 42);
  header.writeUInt16LE(segments.length, 44);
  let offset = 52 + 32 * segments.length;
  const records = segments.map(({ type = 1, physical, text }) => {
    const record = Buffer.alloc(32);
    [type, offset, 0xc0000000, physical, text.length, text.length + 100].forEach((value, index) =>
      record.writeUInt32LE(value, index * 4),
    );
    offset += text.length;
    return record;
  });
  return Buffer.concat([header, ...records, ...segments.map(({ text }) => Buffer.from(text))]);
}

const KERNEL = elf([
  { physical: 0x1000020, text: 'data' },
  { physical: 0x1000000, text: 'text of the kernel' },
  { type: 4, physical: 0x5000000, text: 'a note' },
]);

describe('packedKernel', () => {
  test('is what the header says', () => {
    expect(packedKernel(bzImage())).toEqual(PACKED);
  });

  test('refuses a file that is no kernel, is too old, or ends before', () => {
    expect(() => packedKernel(bzImage({ magic: 'Nope' }))).toThrow('begins with "Nope", it must be "HdrS"');
    expect(() => packedKernel(bzImage({ version: 0x207 }))).toThrow('the boot protocol is 519');
    expect(() => packedKernel(bzImage({ packedLength: 1000 }))).toThrow('ends at 2556, its file at 1619');
  });
});

describe('withUnpackedKernel', () => {
  const made = withUnpackedKernel(bzImage(), KERNEL);
  const system = made.subarray(SETUP_BYTES);

  test('keeps the setup code, and a header that says how much there is to load', () => {
    const expected = bzImage().subarray(0, SETUP_BYTES);
    expected.writeUInt32LE(system.length / 16, 0x1f4);
    expected.fill(0, 0x248, 0x250);
    expect(made.subarray(0, SETUP_BYTES)).toEqual(expected);
    expect(system.length % 16).toBe(0);
  });

  test('has the loaded segments where they lie in memory, and zeroes between them', () => {
    const memory = system.subarray(MOVER_BYTES);
    expect(memory.toString('latin1').replaceAll('\0', '.')).toBe('text of the kernel..............data............');
  });

  test('begins with code that copies the kernel from its end and jumps to its entry', () => {
    const length = system.length - MOVER_BYTES;
    expect(system.toString('hex', 0, 2)).toBe('89f3');
    expect(system.readUInt32LE(10)).toBe(MOVER_BYTES + length - 4);
    expect(system.readUInt32LE(15)).toBe(0x1000000 + length - 4);
    expect(system.readUInt32LE(20)).toBe(length / 4);
    expect(system.readUInt32LE(35)).toBe(0x1000010);
  });

  test('refuses what is no ELF file, or has nothing to load', () => {
    expect(() => withUnpackedKernel(bzImage(), Buffer.alloc(60))).toThrow('begins with 0, an ELF file with');
    expect(() => withUnpackedKernel(bzImage(), elf([]))).toThrow('0 segments');
  });
});
