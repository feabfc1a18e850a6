/** Snapshots that a running QEMU made by `savevm` (`fixtures/README.md`): read, gone to, deleted, and others made beside them. */
import { readFileSync, writeFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import {
  createSnapshot,
  deleteSnapshot,
  discardVmState,
  gotoSnapshot,
  listSnapshots,
  openSnapshot,
  readVmState,
  runToEnd,
  writeVmState,
  type Qcow2Image,
  type SnapshotKey,
} from '../../src/index.js';
import { expectSameBytes } from '../support/model-disk.js';
import { withOurs } from './our-image.js';
import { expectCleanCheck, inTemporaryDirectory, qemuImg, qemuIo } from './qemu.js';
import { asQemuLists, qemuSnapshots } from './snapshots-by-qemu.js';

const FIXTURE = new URL('./fixtures/savevm.qcow2.gz', import.meta.url);
const STATE_BYTES = 68_605;
/** How a migration stream begins: "QEVM", version 3. */
const STREAM_START = [0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 3];
const MEMORY = Uint8Array.from({ length: 4096 }, (_, index) => (((index + 4096) ** 2) >> 7) & 255);

async function withFixture(body: (file: string) => Promise<void>): Promise<void> {
  await inTemporaryDirectory(async (path) => {
    const file = path('savevm.qcow2');
    writeFileSync(file, gunzipSync(readFileSync(FIXTURE)));
    await body(file);
    expectCleanCheck(file);
  });
}

function stateOf(image: Qcow2Image, key: SnapshotKey): Uint8Array {
  const view = openSnapshot(image, key);
  const state = new Uint8Array(view.info.vmStateBytes);
  view.readVmState(0, state);
  return state;
}

function activeState(image: Qcow2Image): Uint8Array {
  const state = new Uint8Array(STATE_BYTES);
  readVmState(image, 0, state);
  return state;
}

/** The first byte of each 16 KiB of the disk. */
function sampled(disk: { read(offset: number, target: Uint8Array): void }): number[] {
  return [0, 1, 2, 3, 4, 5].map((index) => {
    const byte = new Uint8Array(1);
    disk.read(index * 16_384, byte);
    return byte[0]!;
  });
}

const DISKS = { first: [1, 1, 1, 1, 0, 0], second: [1, 2, 2, 2, 2, 0], active: [1, 2, 3, 2, 2, 0] };

describe('an image with snapshots of a running QEMU', () => {
  it('is listed as QEMU lists it, with the sizes of the VM states', async () => {
    await withFixture(async (file) => {
      await withOurs(
        file,
        (image) => {
          expect(asQemuLists(image)).toEqual(qemuSnapshots(file));
          expect(listSnapshots(image)).toMatchObject([
            { id: '1', name: 'first', vmStateBytes: STATE_BYTES, vmClock: 278_823_169n, diskSize: 0x40_0000 },
            { id: '2', name: 'second', vmStateBytes: STATE_BYTES, vmClock: 877_945_836n, diskSize: 0x40_0000 },
          ]);
        },
        { readOnly: true },
      );
    });
  });

  it('is read in all its moments, the memory of the machine included', async () => {
    await withFixture(async (file) => {
      await withOurs(
        file,
        (image) => {
          expect(sampled(image)).toEqual(DISKS.active);
          for (const name of ['first', 'second'] as const) {
            expect(sampled(openSnapshot(image, name))).toEqual(DISKS[name]);
            const state = stateOf(image, name);
            expect([...state.subarray(0, 8)]).toEqual(STREAM_START);
            expect(Buffer.from(state).includes(Buffer.from(MEMORY)), 'the pattern in memory').toBe(true);
          }
        },
        { readOnly: true },
      );
    });
  });

  it('is gone to and fro between them, and QEMU finds the VM state that was left', async () => {
    await withFixture(async (file) => {
      for (const name of ['first', 'second', 'first'] as const) {
        const state = await withOurs(file, (image) => {
          gotoSnapshot(image, name);
          expect(sampled(image)).toEqual(DISKS[name]);
          expectSameBytes(activeState(image), stateOf(image, name), `the VM state of ${name}`);
          return stateOf(image, name);
        });
        expectCleanCheck(file, `after going to ${name}`);
        qemuIo(file, [`read -P ${DISKS[name][2]} 32k 8k`]);
        qemuImg('snapshot', '-a', name, file);
        await withOurs(file, (image) => expectSameBytes(activeState(image), state, `what QEMU left of ${name}`));
      }
    });
  });

  it('takes snapshots of ours beside, which share their VM state with it, and outlive it', async () => {
    await withFixture(async (file) => {
      const state = await withOurs(file, (image) => {
        const second = stateOf(image, 'second');
        const written = writeVmState(image, 0, second, { like: 'second' });
        expect(written).toEqual({ stored: 0, shared: STATE_BYTES, zero: 0 });
        createSnapshot(image, { name: 'ours', vmStateBytes: STATE_BYTES, vmClock: 5n });
        writeVmState(image, 0, second, { compress: true });
        createSnapshot(image, { name: 'compressed', vmStateBytes: STATE_BYTES });
        runToEnd(deleteSnapshot(image, 'second'));
        return second;
      });
      expectCleanCheck(file, 'after our snapshots');
      qemuImg('snapshot', '-d', 'first', file);
      expectCleanCheck(file, 'after QEMU deleted the first');
      await withOurs(file, (image) => {
        for (const name of ['ours', 'compressed']) {
          expectSameBytes(stateOf(image, name), state, `the VM state of ${name}`);
          expect(sampled(openSnapshot(image, name))).toEqual(DISKS.active);
        }
        discardVmState(image);
      });
      for (const name of ['ours', 'compressed']) {
        qemuImg('snapshot', '-a', name, file);
        await withOurs(file, (image) => expectSameBytes(activeState(image), state, `${name} after QEMU went to it`));
      }
      qemuImg('snapshot', '-d', 'ours', file);
      qemuImg('snapshot', '-d', 'compressed', file);
    });
  });

  it('has nothing left of them when we delete both', async () => {
    await withFixture(async (file) => {
      await withOurs(file, (image) => {
        for (const name of ['first', 'second']) runToEnd(deleteSnapshot(image, name));
        expect(sampled(image)).toEqual(DISKS.active);
      });
      expect(qemuSnapshots(file)).toEqual([]);
      const allocated = Number(/"allocated-clusters": (\d+)/.exec(qemuImg('check', '--output=json', file))![1]);
      // 80 KiB of data, no VM state.
      expect(allocated).toBe(20);
    });
  });
});
