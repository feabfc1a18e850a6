/** The first sector of the guest's disk, byte by byte. */
import { describe, expect, test } from 'vitest';
import { masterBootRecord, SECTOR_BYTES, type Partition } from '../../demo/guest/mbr.mjs';

const BOOT: Partition = { type: 0x0e, firstSector: 2048, sectors: 40960, boots: true };
const ROOT: Partition = { type: 0x83, firstSector: 43008, sectors: 196608 };

function record(partitions: Partition[], bootCode = new Uint8Array(0)): Buffer {
  return masterBootRecord({ bootCode, diskId: 0x12345678, partitions });
}

describe('masterBootRecord', () => {
  test('puts boot code, disk id, partitions and signature where a BIOS looks for them', () => {
    const sector = record([BOOT, ROOT], new Uint8Array(440).fill(0x90));
    expect(sector.length).toBe(SECTOR_BYTES);
    expect(sector.subarray(0, 440).every((byte) => byte === 0x90)).toBe(true);
    expect(sector.readUInt32LE(440)).toBe(0x12345678);
    expect(sector.toString('hex', 444, 446)).toBe('0000');
    expect(sector.toString('hex', 446, 462)).toBe('80feffff0efeffff0008000000a00000');
    expect(sector.toString('hex', 462, 478)).toBe('00feffff83feffff00a8000000000300');
    expect(sector.subarray(478, 510).every((byte) => byte === 0)).toBe(true);
    expect(sector.toString('hex', 510)).toBe('55aa');
  });

  test('fills short boot code up with zeroes', () => {
    const sector = record([BOOT], new Uint8Array([1, 2]));
    expect([...sector.subarray(0, 4)]).toEqual([1, 2, 0, 0]);
  });

  test('reaches the last sector that 32 bits can name', () => {
    const sector = record([{ type: 0x83, firstSector: 0xfffffffe, sectors: 1 }]);
    expect(sector.readUInt32LE(446 + 8)).toBe(0xfffffffe);
    expect(() => record([{ type: 0x83, firstSector: 0xffffffff, sectors: 2 }])).toThrow('ends past sector 4294967295');
  });

  test('refuses boot code that would run over the partition table', () => {
    expect(() => record([], new Uint8Array(441))).toThrow('boot code has 441 bytes, at most 440 fit');
  });

  test('refuses a fifth partition', () => {
    const five = Array.from({ length: 5 }, (_, index) => ({ type: 0x83, firstSector: 1 + index, sectors: 1 }));
    expect(() => record(five)).toThrow('5 partitions given, at most 4 fit');
  });

  test('refuses partitions over each other, in whatever order they are given', () => {
    const over = { ...ROOT, firstSector: 43007 };
    expect(() => record([over, BOOT])).toThrow('partition at sector 43007 begins before sector 43008');
  });

  test('refuses a partition over the boot record itself, and an empty one', () => {
    expect(() => record([{ ...BOOT, firstSector: 0 }])).toThrow('begins before sector 1');
    expect(() => record([{ ...BOOT, sectors: 0 }])).toThrow('at least 1 is needed');
  });
});
