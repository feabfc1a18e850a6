/**
 * What the size of a chunk costs a first boot: the demo's guest boots in Node once, and what it reads of its base image is then read again,
 * in the same order, from a server that each line's figures stand for. Nothing is kept from one size to the next.
 *
 *   bytes     over the network, times the bytes of the base that the boot touches
 *   requests  that were sent
 *   waits     reads that had to wait: each is a round trip at least
 *   seconds   of waiting, on a line of 20 Mbit/s with 60 ms for a round trip, and 5 ms of the guest's own between two reads
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

/** The line, in fractions of real time: a tenth. */
const HASTE = 10;
const ROUND_TRIP_MILLISECONDS = 60 / HASTE;
const BYTES_PER_MILLISECOND = (HASTE * 20e6) / 8 / 1000;
const GUEST_MILLISECONDS = 5 / HASTE;

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
    { fetch: lineTo(size), memoryBytes: 2 * size },
  );
  let waits = 0;
  let waited = 0;
  for (const [offset, length] of reads) {
    const target = new Uint8Array(length);
    for (;;) {
      try {
        storage.read(offset, target);
        break;
      } catch (error) {
        if (!(error instanceof NotResident)) throw error;
        waits++;
        const startedAt = performance.now();
        await error.load();
        waited += performance.now() - startedAt;
      }
    }
    await pause(GUEST_MILLISECONDS);
  }
  const { fetchedBytes, requests } = storage.base.status();
  const touched = storage.base.profile().touched.reduce((sum, [, length]) => sum + length, 0);
  storage.close();
  return [(fetchedBytes / touched).toFixed(2), String(requests), String(waits), ((HASTE * waited) / 1000).toFixed(1)];
}

/** A server at the end of one line, whose bytes come one answer after the other. */
function lineTo(size: number): Fetch {
  let freeAt = 0;
  return async (_, init) => {
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(new Headers(init?.headers).get('range') ?? '') ?? [];
    const length = Math.min(Number(last), size - 1) + 1 - Number(first);
    const begins = Math.max(performance.now() + ROUND_TRIP_MILLISECONDS, freeAt);
    freeAt = begins + length / BYTES_PER_MILLISECOND;
    await pause(freeAt - performance.now());
    const headers = { etag: '"bench"', 'content-range': `bytes ${first}-${Number(first) + length - 1}/${size}` };
    return new Response(new Uint8Array(length), { status: 206, headers });
  };
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
