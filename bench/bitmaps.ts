/**
 * What marking costs a guest's write: a disk without bitmaps against the same with some, all enabled and marked in use already. Memory
 * is the file, so that all of the time is the engine's; a file only makes the share smaller.
 */
import { addBitmap, createImage, MemoryStorage, openImage, type Qcow2Image } from '../src/index.js';
import { compare, markdownTable } from './compare.js';

const DISK_BYTES = 2 ** 30;
/** What the guest writes to, so that it is allocated before anything is timed. */
const WORKING_SET = 64 * 2 ** 20;
const STEP = 7 * 4096;

function diskWith(bitmaps: number, granularity: number): Qcow2Image {
  const storage = new MemoryStorage();
  createImage(storage, { size: DISK_BYTES });
  const image = openImage(storage);
  for (let index = 0; index < bitmaps; index++) addBitmap(image, { name: `bitmap ${index}`, granularity });
  const filling = new Uint8Array(2 ** 20).fill(1);
  for (let at = 0; at < WORKING_SET; at += filling.length) image.write(at, filling);
  return image;
}

export function bench(): string {
  const rows = [4096, 65536].map((length) => {
    const source = new Uint8Array(length).fill(2);
    const disks = [diskWith(0, 65536), diskWith(1, 65536), diskWith(4, 65536), diskWith(1, 512)];
    const timings = compare(
      disks.map((image, index) => {
        let at = 0;
        return {
          name: `disk ${index}`,
          run: () => {
            image.write(at, source);
            at = (at + STEP) % (WORKING_SET - length);
          },
        };
      }),
    );
    const cells = timings.map(
      ({ microseconds, ratio }) => `${microseconds.toPrecision(3)} (${(1 / ratio).toFixed(2)})`,
    );
    return [`write of ${length / 1024} KiB, us (times none)`, ...cells];
  });
  return markdownTable([['', 'none', 'one', 'four', 'one, of 512 bytes'], ...rows]);
}
