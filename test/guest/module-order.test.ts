/** Which kernel modules the guest loads, and in which order. */
import { describe, expect, test } from 'vitest';
import { canonicalName, loadOrder, moduleDependencies } from '../../demo/guest/module-order.mjs';

const NEEDS: Record<string, string[]> = {
  ext4: ['mbcache', 'jbd2', 'crc16'],
  jbd2: [],
  mbcache: [],
  crc16: [],
  sd_mod: ['t10-pi', 'scsi_mod'],
  t10_pi: ['scsi_mod'],
  scsi_mod: [],
};
const order = (...roots: string[]): string[] => loadOrder(roots, (name) => NEEDS[name] ?? []);

describe('loadOrder', () => {
  test('puts what a module needs before it, and each module once', () => {
    expect(order('sd_mod', 'ext4', 'scsi_mod')).toEqual([
      'scsi_mod',
      't10_pi',
      'sd_mod',
      'mbcache',
      'jbd2',
      'crc16',
      'ext4',
    ]);
  });

  test('takes a name with a hyphen for the same module as one with an underscore', () => {
    expect(canonicalName('t10-pi')).toBe('t10_pi');
    expect(order('t10-pi', 't10_pi')).toEqual(['scsi_mod', 't10_pi']);
  });

  test('refuses modules that need each other', () => {
    const circle: Record<string, string[]> = { a: ['b'], b: ['a'] };
    expect(() => loadOrder(['a'], (name) => circle[name] ?? [])).toThrow('modules need each other: a > b > a');
  });
});

describe('moduleDependencies', () => {
  test('finds the names in the module information', () => {
    expect(moduleDependencies(Buffer.from('\x7fELF\0alias=x\0depends=jbd2,crc16\0name=ext4\0'))).toEqual([
      'jbd2',
      'crc16',
    ]);
  });

  test('is empty for a module that needs none', () => {
    expect(moduleDependencies(Buffer.from('\0depends=\0'))).toEqual([]);
  });

  test('refuses a file that is no module', () => {
    expect(() => moduleDependencies(Buffer.from('text'))).toThrow('it is not a kernel module');
  });
});
