/** Fuzz of images that only QEMU makes: with snapshots, compressed and zero clusters, and marked dirty. */
import { readFileSync } from 'node:fs';
import { describe, it } from 'vitest';
import { CLUSTER_SIZE, DISK_SIZE, locateTables, type SmallImage } from '../image/damaged.js';
import { fuzz } from '../image/fuzz-run.js';
import { roundsOfThisRun, timeoutOfThisRun } from '../support/campaign.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { inTemporaryDirectory, qemuCreate, qemuImg, qemuIo } from './qemu.js';

const ROUNDS = roundsOfThisRun(1200);
const OPTIONS = { timeout: timeoutOfThisRun(120_000) };
const INCOMPATIBLE_LOW_BYTE = 79;

/** Compressed clusters come first: QEMU writes none over an allocated one. */
function qemuImage(options: { readonly lazy: boolean }): Promise<SmallImage> {
  return inTemporaryDirectory((path) => {
    const file = path('image.qcow2');
    const lazy = options.lazy ? { lazy_refcounts: 'on' } : {};
    qemuCreate(file, { size: DISK_SIZE, options: { cluster_size: CLUSTER_SIZE, ...lazy } });
    qemuIo(file, [
      ...[0, 1, 2, 5, 9].map((cluster) => `write -c -P ${cluster + 1} ${cluster * CLUSTER_SIZE} ${CLUSTER_SIZE}`),
      'write -P 7 48k 40k',
      'write -z 96k 16k',
    ]);
    qemuImg('snapshot', '-c', 'one', file);
    qemuIo(file, ['write -P 9 50k 9k', 'write -z 48k 4k']);
    return locateTables(new Uint8Array(readFileSync(file)));
  });
}

describe('a damaged image with snapshots, compressed and zero clusters', () => {
  it('ends in success or with a Qcow2Error, soon, and in bounds', OPTIONS, async () => {
    const image = await qemuImage({ lazy: false });
    await withSeed('fuzz', seedOfThisRun(31), (random) => fuzz(image, ROUNDS, random));
  });

  it('does so when it is dirty, too, and is to be repaired', OPTIONS, async () => {
    const image = await qemuImage({ lazy: true });
    image.bytes[INCOMPATIBLE_LOW_BYTE] = 1;
    await withSeed('fuzz', seedOfThisRun(32), (random) => fuzz(image, ROUNDS, random));
  });
});
