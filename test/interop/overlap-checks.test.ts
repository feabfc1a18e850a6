/**
 * A guest cluster that is mapped onto each structure in turn, and written under each template: QEMU and we prevent the same
 * writes.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, copyFileSync, openSync, readFileSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { isQcow2Error, type OverlapCheck, type OverlapTemplate } from '../../src/index.js';
import { withOurs } from './our-image.js';
import { inTemporaryDirectory, qemuCreate, qemuImg, qemuIo } from './qemu.js';

const CLUSTER = 4096;
const COPIED = 1n << 63n;
const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;
const TEMPLATES: readonly OverlapTemplate[] = ['none', 'constant', 'cached', 'all'];
/** Behind the header (112 bytes) the bitmaps extension is the only one: type and length, bitmaps, reserved, bytes, offset. */
const BITMAP_DIRECTORY_AT = 112 + 8 + 4 + 4 + 8;
/** QEMU's name of the switch, ours, and where the structure lies. The header can't be named: offset 0 is no place. */
const STRUCTURES = [
  ['active-l1', 'activeL1', (file: ImageFile) => file.offset(40)],
  ['active-l2', 'activeL2', (file: ImageFile) => file.offset(file.offset(40))],
  ['refcount-table', 'refcountTable', (file: ImageFile) => file.offset(48)],
  ['refcount-block', 'refcountBlock', (file: ImageFile) => file.offset(file.offset(48))],
  ['snapshot-table', 'snapshotTable', (file: ImageFile) => file.offset(64)],
  ['inactive-l1', 'inactiveL1', (file: ImageFile) => file.offset(file.offset(64))],
  ['inactive-l2', 'inactiveL2', (file: ImageFile) => file.offset(file.offset(file.offset(64)) + 8)],
  ['bitmap-directory', 'bitmapDirectory', (file: ImageFile) => file.offset(BITMAP_DIRECTORY_AT)],
] as const;

class ImageFile {
  readonly #bytes: Buffer;

  constructor(readonly path: string) {
    this.#bytes = readFileSync(path);
  }

  /** The offset in the 64-bit number at `at`. */
  offset(at: number): number {
    return Number(this.#bytes.readBigUInt64BE(at) & OFFSET_MASK);
  }

  /** Maps guest cluster 1 to `host`. */
  map(host: number): void {
    const entry = Buffer.alloc(8);
    entry.writeBigUInt64BE(COPIED | BigInt(host));
    const file = openSync(this.path, 'r+');
    writeSync(file, entry, 0, 8, this.offset(this.offset(40)) + 8);
    closeSync(file);
  }
}

/** An image with a snapshot and a bitmap. The second L2 table is only the snapshot's by now, the first has one for each. */
function makeImage(path: string): void {
  qemuCreate(path, { size: 0x80_0000, options: { cluster_size: CLUSTER } });
  qemuIo(path, ['write -P 1 0 64k', 'write -P 2 3M 64k']);
  qemuImg('snapshot', '-c', 'before', path);
  qemuIo(path, ['write -P 3 0 64k', 'write -P 4 3M 64k']);
  qemuImg('bitmap', '--add', path, 'b');
}

function isMarked(path: string): boolean {
  return ((readFileSync(path)[79] ?? 0) & 2) !== 0;
}

function qemuPrevents(path: string, options: string): boolean {
  const image = `driver=qcow2,file.filename=${path},${options}`;
  const done = spawnSync('qemu-io', ['--image-opts', image, '-c', 'write -P 9 4k 4k'], { encoding: 'utf8' });
  const prevented = /Preventing invalid write/.test(done.stderr + done.stdout);
  expect(isMarked(path), 'QEMU marks what it prevents').toBe(prevented);
  return prevented;
}

async function wePrevent(path: string, overlapCheck: OverlapCheck): Promise<boolean> {
  const prevented = await withOurs(
    path,
    (image) => {
      try {
        image.write(CLUSTER, new Uint8Array(CLUSTER).fill(9));
        return false;
      } catch (error) {
        if (!isQcow2Error(error, 'CORRUPT')) throw error;
        return true;
      }
    },
    { overlapCheck },
  );
  expect(isMarked(path), 'we mark what we prevent').toBe(prevented);
  return prevented;
}

describe('a write that would hit', () => {
  for (const [theirName, ourName, place] of STRUCTURES) {
    it(`${ourName} is prevented by QEMU and by us under the same templates and switches`, async () => {
      await inTemporaryDirectory(async (path) => {
        const [made, theirs, ours] = [path('made.qcow2'), path('theirs.qcow2'), path('ours.qcow2')];
        makeImage(made);
        const file = new ImageFile(made);
        file.map(place(file));
        const compare = async (qemuOptions: string, overlapCheck: OverlapCheck): Promise<boolean> => {
          copyFileSync(made, theirs);
          copyFileSync(made, ours);
          const prevented = qemuPrevents(theirs, qemuOptions);
          expect(await wePrevent(ours, overlapCheck), qemuOptions).toBe(prevented);
          return prevented;
        };
        const outcomes: boolean[] = [];
        for (const template of TEMPLATES) outcomes.push(await compare(`overlap-check=${template}`, template));
        expect(outcomes[0]).toBe(false);
        expect(outcomes[3]).toBe(true);
        const off = `overlap-check.template=all,overlap-check.${theirName}=off`;
        expect(await compare(off, { template: 'all', [ourName]: false })).toBe(false);
        const on = `overlap-check.template=none,overlap-check.${theirName}=on`;
        expect(await compare(on, { template: 'none', [ourName]: true })).toBe(true);
      });
    });
  }
});
