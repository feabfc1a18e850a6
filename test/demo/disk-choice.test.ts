/** Which disk the address of the demo page names. */
import { describe, expect, it } from 'vitest';
import { diskOfAddress } from '../../demo/src/disk-choice.js';
import { diskNameOf, fileNameOf, MAXIMUM_NAME_LENGTH } from '../../demo/src/disk-names.js';

function addressOf(name: string): string {
  return `?${new URLSearchParams({ flush: 'guest', disk: name }).toString()}`;
}

describe('the address', () => {
  it('names a disk as it was typed, tidied', () => {
    expect(diskOfAddress(addressOf('Anna:  für Ärzte '))).toBe('Anna: für Ärzte');
    expect(diskOfAddress(addressOf('x'.repeat(MAXIMUM_NAME_LENGTH)))).toBe('x'.repeat(MAXIMUM_NAME_LENGTH));
  });

  it('names none where there is no name in it', () => {
    for (const search of ['', '?disk', '?disk=', '?disk=%20', '?flush=guest']) expect(diskOfAddress(search)).toBeNull();
  });

  it('names none that could not be found again: too long, or with control characters', () => {
    for (const name of ['x'.repeat(MAXIMUM_NAME_LENGTH + 1), 'a\u0007b', 'a\u009fb']) {
      expect(diskOfAddress(addressOf(name)), JSON.stringify(name)).toBeNull();
    }
  });

  it('names only disks whose file has their name', () => {
    for (const name of ['disk', 'Disk', 'a/b', 'ÀB', 'per%20cent', '..', 'a\u2028b']) {
      const named = diskOfAddress(addressOf(name));
      expect(named, name).not.toBeNull();
      expect(diskNameOf(fileNameOf(named!)), name).toBe(named);
    }
  });
});
