import { describe, expect, test } from 'vitest';
import { createImage } from '../../../src/image/create.js';
import { openImage } from '../../../src/image/open.js';
import { checkImage } from '../../../src/operations/check/check-image.js';
import { createSnapshot } from '../../../src/operations/snapshots/create-snapshot.js';
import { gotoSnapshot } from '../../../src/operations/snapshots/goto-snapshot.js';
import { listSnapshots } from '../../../src/operations/snapshots/list-snapshots.js';
import { vmStateOffset } from '../../../src/operations/snapshots/vm-state.js';
import { MemoryStorage } from '../../../src/storage/memory.js';
import { runToEnd } from '../../../src/util/steps.js';

const CLUSTER = 4096;

/** An image with a cluster of VM state that no snapshot knows of. */
function imageWithVmState() {
  const storage = new MemoryStorage();
  createImage(storage, { size: 2 ** 20, clusterSize: CLUSTER });
  const image = openImage(storage);
  image.changeableTables().growL1(2 ** 24);
  image.writeBehind(vmStateOffset(image), new Uint8Array(CLUSTER).fill(7));
  const stateByte = () => {
    const bytes = new Uint8Array(CLUSTER);
    image.readBehind(vmStateOffset(image), bytes);
    return bytes[0];
  };
  return { image, storage, stateByte };
}

const isSound = (storage: MemoryStorage): boolean => {
  const { leaks, corruptions, checkErrors } = runToEnd(checkImage(storage));
  return leaks + corruptions + checkErrors === 0;
};

describe('VM state behind what a new snapshot takes', () => {
  test('is dropped as a rule', () => {
    const { image, storage, stateByte } = imageWithVmState();
    createSnapshot(image, { name: 'a' });
    expect(stateByte()).toBe(0);
    image.close();
    expect(isSound(storage)).toBe(true);
  });

  test('is kept by both when that is asked for, and comes back with the snapshot', () => {
    const { image, storage, stateByte } = imageWithVmState();
    createSnapshot(image, { name: 'a', furtherVmState: 'keep' });
    expect(stateByte()).toBe(7);
    expect(listSnapshots(image)[0]?.vmStateBytes).toBe(0);
    image.writeBehind(vmStateOffset(image), new Uint8Array(CLUSTER).fill(8));
    expect(stateByte()).toBe(8);
    gotoSnapshot(image, 'a');
    expect(stateByte()).toBe(7);
    image.close();
    expect(isSound(storage)).toBe(true);
  });
});
