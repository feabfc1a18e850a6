/**
 * The boot profile of the demo's guest, demo/guest/linux.qcow2.profile.json (src/network/boot-profile.ts has the layout): which parts of the
 * image a boot reads, in order, so that a visitor's first boot need not wait for each of them.
 *
 *   node demo/guest/boot-profile.mjs     boots the guest once, here in Node, and notes what it reads
 *
 * It is the machine of the demo's page, on a fresh overlay in memory, until the guest is ready. No browser is needed. The image is only read.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isStale } from '../../scripts/stale.mjs';

const GUEST = fileURLToPath(new URL('.', import.meta.url));
const IMAGE = join(GUEST, 'linux.qcow2');
const PROFILE = `${IMAGE}.profile.json`;

/** Of a profile, whatever the size of the chunks that are fetched. */
const UNIT_BYTES = 64 * 1024;
const MEMORY_BYTES = 128 * 2 ** 20;
const READY = 'GUEST-READY';
const PATIENCE_MILLISECONDS = 150_000;

/**
 * Records the profile, unless there is one that is newer than the guest.
 * @returns {Promise<string>} its path
 * @throws {Error} where the guest does not get ready
 */
export async function provideBootProfile() {
  if (!isStale(['demo/guest/linux.qcow2.profile.json'], ['demo/guest/linux.qcow2'])) return PROFILE;
  const profile = await recordBootProfile();
  writeFileSync(`${PROFILE}.unfinished`, `${JSON.stringify(profile)}\n`);
  renameSync(`${PROFILE}.unfinished`, PROFILE);
  return PROFILE;
}

/** Boots the guest. */
async function recordBootProfile() {
  const { createImage, MemoryStorage, NodeFileStorage, openImage } = await import('../../dist/node.js');
  const file = NodeFileStorage.open(IMAGE, { readOnly: true });
  try {
    const units = new TouchedUnits(file.size);
    const base = openImage(watched(file, units), { readOnly: true });
    const overlay = new MemoryStorage();
    createImage(overlay, { size: base.size, backing: { name: 'linux.qcow2', format: 'qcow2' } });
    await bootFrom(openImage(overlay, { backing: base }));
    return { format: 'qcow2-wasm boot profile', version: 1, size: file.size, touched: units.runs() };
  } finally {
    file.close();
  }
}

/** The units of a file in the order in which they were first read. */
export class TouchedUnits {
  #units = new Set();
  #size;

  constructor(size) {
    this.#size = size;
  }

  note(offset, length) {
    const end = Math.min(offset + length, this.#size);
    for (let unit = Math.floor(offset / UNIT_BYTES); unit * UNIT_BYTES < end; unit++) this.#units.add(unit);
  }

  /** @returns {[offset: number, length: number][]} in bytes; units that follow one another are one run */
  runs() {
    const runs = [];
    for (const unit of this.#units) {
      const length = Math.min(UNIT_BYTES, this.#size - unit * UNIT_BYTES);
      const last = runs.at(-1);
      if (last !== undefined && last[0] + last[1] === unit * UNIT_BYTES) last[1] += length;
      else runs.push([unit * UNIT_BYTES, length]);
    }
    return runs;
  }
}

/** A storage that is only read, and notes where. */
function watched(file, units) {
  return {
    size: file.size,
    readOnly: true,
    read(offset, target) {
      units.note(offset, target.length);
      file.read(offset, target);
    },
    close() {},
  };
}

/** Resolves when the guest on `disk` is ready. */
async function bootFrom(disk) {
  const { attach, localDisk } = await import('../../dist/v86.js');
  const { V86 } = await import('v86');
  const hda = localDisk(disk);
  const emulator = new V86({
    wasm_path: join(dirname(createRequire(import.meta.url).resolve('v86')), 'v86.wasm'),
    memory_size: MEMORY_BYTES,
    bios: { buffer: arrayBuffer('bios/bios.bin') },
    vga_bios: { buffer: arrayBuffer('bios/vgabios-stdvga.bin') },
    hda,
    disable_speaker: true,
    autostart: false,
  });
  try {
    const ready = untilReady(emulator);
    await attach(emulator, hda);
    await emulator.run();
    await ready;
  } finally {
    await emulator.destroy();
  }
}

/** Resolves when the guest has printed its mark on the serial port. */
function untilReady(emulator) {
  return new Promise((resolve, reject) => {
    const tooLong = () => reject(new Error(`the guest was not ready after ${PATIENCE_MILLISECONDS / 1000} s`));
    const timer = setTimeout(tooLong, PATIENCE_MILLISECONDS);
    let printed = '';
    emulator.add_listener('serial0-output-byte', (byte) => {
      printed = (printed + String.fromCharCode(byte)).slice(-READY.length);
      if (printed !== READY) return;
      clearTimeout(timer);
      resolve();
    });
  });
}

/** @param {string} name in the folder of the guest */
function arrayBuffer(name) {
  const path = join(GUEST, name);
  if (!existsSync(path)) throw new Error(`demo/guest/${name} is missing: make it with "npm run guest"`);
  return new Uint8Array(readFileSync(path)).buffer;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await provideBootProfile();
  } catch (error) {
    console.error(`demo/guest: no boot profile could be recorded: ${error instanceof Error ? error.message : error}`);
    process.exitCode = 1;
  }
}
