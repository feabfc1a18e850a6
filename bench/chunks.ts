/**
 * What the size of a chunk costs a first boot: the demo's guest boots in Node once, and what it reads of its base image is then read again,
 * in the same order, in chunks of each size. Nothing is kept from one size to the next.
 *
 *   bytes     over the network, times the bytes of the base that the boot touches
 *   requests  that were sent
 *   waits     reads that had to wait: each is a round trip at least
 *   seconds   that these come to at most, on a line of 20 Mbit/s with 60 ms for a round trip: the waits, and the bytes
 *
 * The demo's image is small, and a boot reads nearly all of it. So there is a second one: the same reads, spread over an image twenty times as
 * large in pieces of 128 KiB, as the files of a larger system lie.
 */
import { existsSync, readFileSync } from 'node:fs';
import { NotResident, openHttpStorage, openImage, ReadOnlyStorage, createImage, MemoryStorage } from '../src/index.js';
import type { Fetch } from '../src/network/http.js';
import { attach } from '../src/v86/attach.js';
import { localDisk } from '../src/v86/v86-disk.js';
import { createMachine, readArrayBuffer, SerialConsole } from '../test/v86/machine.js';
import { markdownTable } from './compare.js';

const IMAGE = 'demo/guest/linux.qcow2';
const BOOT_MILLISECONDS = 300_000;
const URL_OF_BASE = 'https://bench.test/linux.qcow2';
const SIZES = [64, 128, 256, 512, 1024, 2048, 4096];
const PIECE_BYTES = 128 * 1024;
const SPREAD = 20;

/** The line that the seconds are for. */
const ROUND_TRIP_SECONDS = 0.06;
const BYTES_PER_SECOND = 20e6 / 8;

type Read = readonly [offset: number, length: number];

export async function bench(): Promise<string> {
  if (!existsSync(IMAGE)) throw new Error(`${IMAGE} is missing: make it with "npm run guest"`);
  const image = new Uint8Array(readFileSync(IMAGE));
  const reads = await readsOfBoot(image);
  const spread = reads.flatMap(([offset, length]) => spreadRead(offset, length));
  const rows = [
    ['chunk, KiB', 'bytes', 'requests', 'waits', 'seconds', 'spread: bytes', 'requests', 'waits', 'seconds'],
  ];
  for (const size of SIZES) {
    const near = await measure(reads, image.length, size * 1024);
    const far = await measure(spread, SPREAD * image.length, size * 1024);
    rows.push([String(size), ...near, ...far]);
  }
  return markdownTable(rows);
}

async function readsOfBoot(image: Uint8Array): Promise<Read[]> {
  const reads: Read[] = [];
  const storage = new MemoryStorage(image.slice());
  const read = storage.read.bind(storage);
  storage.read = (offset, target) => {
    reads.push([offset, target.length]);
    read(offset, target);
  };
  const base = openImage(new ReadOnlyStorage(storage), { readOnly: true });
  const overlay = new MemoryStorage();
  createImage(overlay, { size: base.size, backing: { name: 'base', format: 'qcow2' } });
  const disk = localDisk(openImage(overlay, { backing: base }));
  const firmware = {
    bios: readArrayBuffer('demo/guest/bios/bios.bin'),
    vgaBios: readArrayBuffer('demo/guest/bios/vgabios-stdvga.bin'),
  };
  const emulator = createMachine(disk, firmware);
  const guest = new SerialConsole(emulator);
  await attach(emulator, disk);
  await emulator.run();
  await guest.waitFor(/GUEST-READY/, BOOT_MILLISECONDS);
  await emulator.destroy();
  return reads;
}

/** The same read where every piece of the image lies `SPREAD` times as far from the start, in an order of its own. */
function spreadRead(offset: number, length: number): Read[] {
  const parts: Read[] = [];
  for (let at = offset; at < offset + length;) {
    const piece = Math.floor(at / PIECE_BYTES);
    const end = Math.min(offset + length, (piece + 1) * PIECE_BYTES);
    parts.push([SPREAD * piece * PIECE_BYTES + (at - piece * PIECE_BYTES), end - at]);
    at = end;
  }
  return parts;
}

/** Four cells of the table. */
async function measure(reads: readonly Read[], size: number, chunkBytes: number): Promise<string[]> {
  const storage = await openHttpStorage(
    { url: URL_OF_BASE, chunkBytes },
    { fetch: serverOf(size), memoryBytes: 2 * size },
  );
  let waits = 0;
  for (const [offset, length] of reads) {
    const target = new Uint8Array(length);
    for (;;) {
      try {
        storage.read(offset, target);
        break;
      } catch (error) {
        if (!(error instanceof NotResident)) throw error;
        waits++;
        await error.load();
      }
    }
    // What was asked for ahead of the guest is on its way.
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  const { fetchedBytes, requests } = storage.base.status();
  const touched = storage.base.profile().touched.reduce((sum, [, length]) => sum + length, 0);
  storage.close();
  const seconds = waits * ROUND_TRIP_SECONDS + fetchedBytes / BYTES_PER_SECOND;
  return [(fetchedBytes / touched).toFixed(2), String(requests), String(waits), seconds.toFixed(1)];
}

/** A server that has zeroes, a moment later. */
function serverOf(size: number): Fetch {
  return async (_, init) => {
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(new Headers(init?.headers).get('range') ?? '') ?? [];
    const end = Math.min(Number(last) + 1, size);
    await new Promise((resolve) => setTimeout(resolve, 1));
    const headers = { etag: '"bench"', 'content-range': `bytes ${first}-${end - 1}/${size}` };
    return new Response(new Uint8Array(end - Number(first)), { status: 206, headers });
  };
}
