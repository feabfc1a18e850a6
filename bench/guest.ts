/**
 * The guest on our disk against the same guest on v86's own in-memory buffer, in Node: boot time, and `dd` to and from the
 * disk. All disks take turns, round by round, on the same machine state; the ratio is the median over the rounds.
 *
 *   v86 buffer     the raw disk in one ArrayBuffer, v86's own disk object: the floor, and nothing is ever stable
 *   qcow2, memory  our engine in the emulator's thread, the image in memory
 *   qcow2, file    the same on a file; the guest's fsync waits for the file's
 */
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { V86 } from 'v86';
import { MemoryStorage, openImage, type Disk } from '../src/index.js';
import { NodeFileStorage } from '../src/node.js';
import { attach, localDisk } from '../src/v86.js';
import { createMachine, readArrayBuffer, SerialConsole, type MachineFirmware } from '../test/v86/machine.js';
import { markdownTable, median } from './compare.js';

const GUEST_FOLDER = 'demo/guest';
const IMAGE = join(GUEST_FOLDER, 'linux.qcow2');
const ROUNDS = Number(process.env['ROUNDS'] ?? 3);
const TRANSFER_MEBIBYTES = 16;
const BOOT_MILLISECONDS = 300_000;

interface Measured {
  readonly bootSeconds: number;
  readonly writeMebibytesPerSecond: number;
  readonly readMebibytesPerSecond: number;
}

interface Candidate {
  readonly name: string;
  /** A machine on a fresh copy of the guest's disk, not yet running. */
  readonly build: (firmware: MachineFirmware) => Promise<V86>;
}

export async function bench(): Promise<string> {
  if (!existsSync(IMAGE)) throw new Error(`${IMAGE} is missing: make it with "npm run guest"`);
  const folder = mkdtempSync(join(tmpdir(), 'qcow2-wasm-bench-'));
  try {
    const firmware = {
      bios: readArrayBuffer(join(GUEST_FOLDER, 'bios/bios.bin')),
      vgaBios: readArrayBuffer(join(GUEST_FOLDER, 'bios/vgabios-stdvga.bin')),
    };
    const disks = candidates(folder);
    const results: Measured[][] = disks.map(() => []);
    for (let round = 0; round < ROUNDS; round++) {
      for (const [index, { build }] of disks.entries()) results[index]!.push(await measure(await build(firmware)));
    }
    return table(disks, results);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function candidates(folder: string): Candidate[] {
  const image = new Uint8Array(readFileSync(IMAGE));
  const raw = readWhole(openImage(new MemoryStorage(image.slice())));
  return [
    {
      name: 'v86 buffer',
      build: async (firmware) => {
        const emulator = createMachine({ buffer: raw.slice().buffer }, firmware);
        await new Promise<void>((resolve) => emulator.add_listener('emulator-loaded', resolve));
        return emulator;
      },
    },
    {
      name: 'qcow2, memory',
      build: (firmware) => attached(openImage(new MemoryStorage(image.slice())), firmware),
    },
    {
      name: 'qcow2, file',
      build: (firmware) => {
        const path = join(folder, 'guest.qcow2');
        copyFileSync(IMAGE, path);
        return attached(openImage(NodeFileStorage.open(path)), firmware);
      },
    },
  ];
}

function readWhole(disk: Disk): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(disk.size);
  disk.read(0, bytes);
  return bytes;
}

async function attached(disk: Disk, firmware: MachineFirmware): Promise<V86> {
  const object = localDisk(disk);
  const emulator = createMachine(object, firmware);
  await attach(emulator, object);
  return emulator;
}

async function measure(emulator: V86): Promise<Measured> {
  const guest = new SerialConsole(emulator);
  const startedAt = performance.now();
  await emulator.run();
  await guest.waitFor(/GUEST-READY/, BOOT_MILLISECONDS);
  const bootSeconds = (performance.now() - startedAt) / 1000;
  await guest.run('true');
  const count = TRANSFER_MEBIBYTES * 16;
  const write: number[] = [];
  const read: number[] = [];
  for (let turn = 0; turn < 3; turn++) {
    write.push(await throughput(guest, `dd if=/dev/zero of=/root/bench bs=64k count=${count} conv=fsync`));
    await guest.run('echo 3 > /proc/sys/vm/drop_caches');
    read.push(await throughput(guest, 'dd if=/root/bench of=/dev/null bs=64k'));
  }
  await emulator.destroy();
  return { bootSeconds, writeMebibytesPerSecond: median(write), readMebibytesPerSecond: median(read) };
}

async function throughput(guest: SerialConsole, command: string): Promise<number> {
  const { status, output, milliseconds } = await guest.run(command, BOOT_MILLISECONDS);
  if (status !== 0) throw new Error(`"${command}" ended with status ${status}: ${output}`);
  return TRANSFER_MEBIBYTES / (milliseconds / 1000);
}

function table(disks: readonly Candidate[], results: readonly (readonly Measured[])[]): string {
  const ratio = (index: number, of: (one: Measured) => number): string =>
    median(results[index]!.map((one, round) => of(one) / of(results[0]![round]!))).toFixed(2);
  const cell = (index: number, of: (one: Measured) => number): string =>
    `${median(results[index]!.map(of)).toFixed(1)} (${ratio(index, of)} x)`;
  const rows = disks.map(({ name }, index) => [
    name,
    cell(index, (one) => one.bootSeconds),
    cell(index, (one) => one.writeMebibytesPerSecond),
    cell(index, (one) => one.readMebibytesPerSecond),
  ]);
  const head = ['disk', 'boot, s', 'dd write + fsync, MiB/s', 'dd read, MiB/s'];
  return `Medians of ${ROUNDS} rounds; in brackets, against v86's own buffer.\n\n${markdownTable([head, ...rows])}`;
}
