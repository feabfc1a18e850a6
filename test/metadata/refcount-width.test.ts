import { describe, expect, it } from 'vitest';
import { createImage, isQcow2Error, MemoryStorage, openImage, type Qcow2Image } from '../../src/index.js';
import { RefcountWidthChange } from '../../src/metadata/refcount-width.js';
import { checkImage, type CheckResult } from '../../src/operations/check/check-image.js';

const CLUSTER = 65536;
const MIB = 2 ** 20;
const filled = (value: number) => new Uint8Array(CLUSTER).fill(value);

function check(storage: MemoryStorage): CheckResult {
  const job = checkImage(storage);
  for (;;) {
    const { done, value } = job.next();
    if (done) return value;
  }
}

/** Two compressed clusters share a host cluster, whose refcount of 2 does not fit one bit. */
function shareCluster(image: Qcow2Image): void {
  for (const at of [32 * MIB, 33 * MIB]) image.writeCompressed(at, filled(9));
}

/** The code of what stops a change to one bit when the guest writes after `before` steps; null for none. */
function changeToOneBit(image: Qcow2Image, before: number): string | null {
  const change = new RefcountWidthChange(image, 1);
  try {
    for (let steps = 0; ; steps++) {
      if (steps === before) shareCluster(image);
      if (change.step() === null) return null;
    }
  } catch (error) {
    if (!isQcow2Error(error)) throw error;
    expect(() => change.step(), 'asked again').toThrow(error);
    return error.code;
  }
}

describe('a change of the refcount width that is refused', () => {
  it.each([0, 1, 2, 3])('leaves no leak when the guest spoils it after %i steps', (before) => {
    const storage = new MemoryStorage();
    createImage(storage, { size: 64 * MIB, clusterSize: CLUSTER });
    const image = openImage(storage);
    image.write(0, filled(1));
    expect(changeToOneBit(image, before)).toBe('LIMIT');
    image.write(MIB, filled(2));
    image.close();
    expect(check(storage)).toMatchObject({ leaks: 0, corruptions: 0, checkErrors: 0 });
  });
});
