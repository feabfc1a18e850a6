/**
 * Snapshots of a machine with 128 MiB, against what v86 itself does in memory: `save_state()` into a buffer and
 * `restore_state()` out of it, at the same moment of the same guest. The image is a file.
 *
 *   1st         shares with nothing
 *   2nd, idle   a few seconds of a guest at its prompt later
 *   3rd         50 MiB of new memory later
 *
 * Each round deletes all snapshots and begins again; times are medians. Bytes are what the file grows by, in the first
 * round, when it has no room of its own yet.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { localSnapshots } from '../src/index.js';
import { NodeFileStorage } from '../src/node.js';
import { attach, localDisk, type Attachment } from '../src/v86.js';
import type { V86 } from 'v86';
import { newGuestOverlay, openGuestOverlay } from '../test/v86/guest-disk.js';
import { createMachine, readArrayBuffer, SerialConsole } from '../test/v86/machine.js';
import { markdownTable, median } from './compare.js';

const GUEST_FOLDER = 'demo/guest';
const IMAGE = join(GUEST_FOLDER, 'linux.qcow2');
const ROUNDS = Number(process.env['ROUNDS'] ?? 3);
const MEMORY_BYTES = 128 * 2 ** 20;
const MEBIBYTE = 2 ** 20;
const BOOT_MILLISECONDS = 300_000;
const CLUSTER_SIZES = [65536, 4096];

/** What the guest does before each of the snapshots. */
const MOMENTS = [
  { name: '1st', command: 'true' },
  { name: '2nd, idle', command: 'sleep 5' },
  { name: '3rd, after 50 MiB', command: 'dd if=/dev/urandom of=/run/bench bs=64k count=800' },
];

interface Machine {
  readonly emulator: V86;
  readonly attachment: Attachment;
  readonly guest: SerialConsole;
  readonly storage: NodeFileStorage;
}

interface Measured {
  readonly saveMilliseconds: number;
  readonly restoreMilliseconds: number;
  readonly addedBytes: number;
  readonly peer: { readonly save: number; readonly restore: number; readonly bytes: number };
}

export async function bench(): Promise<string> {
  if (!existsSync(IMAGE)) throw new Error(`${IMAGE} is missing: make it with "npm run guest"`);
  const folder = mkdtempSync(join(tmpdir(), 'qcow2-wasm-bench-'));
  try {
    const rows: string[][] = [];
    for (const clusterSize of CLUSTER_SIZES) {
      const machine = await boot(join(folder, `${clusterSize}.qcow2`), clusterSize);
      const results: Measured[][] = MOMENTS.map(() => []);
      for (let round = 0; round < ROUNDS; round++) await measureRound(machine, results);
      await machine.emulator.destroy();
      for (const [index, { name }] of MOMENTS.entries()) rows.push(rowOf(name, clusterSize, results[index]!));
    }
    const head = ['snapshot', 'cluster', 'save, ms', 'restore, ms', 'added, MiB'];
    const note = `${ROUNDS} rounds; in brackets, against save_state(), restore_state() and the length of the state.`;
    return `${note}\n\n${markdownTable([head, ...rows])}`;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function boot(path: string, clusterSize: number): Promise<Machine> {
  const storage = NodeFileStorage.open(path, { create: true });
  storage.write(0, newGuestOverlay(IMAGE, clusterSize).toBytes());
  const image = openGuestOverlay(IMAGE, storage);
  const disk = localDisk(image, { snapshots: localSnapshots(image) });
  const firmware = {
    bios: readArrayBuffer(join(GUEST_FOLDER, 'bios/bios.bin')),
    vgaBios: readArrayBuffer(join(GUEST_FOLDER, 'bios/vgabios-stdvga.bin')),
  };
  const emulator = createMachine(disk, firmware, MEMORY_BYTES);
  const attachment = await attach(emulator, disk);
  const guest = new SerialConsole(emulator);
  await emulator.run();
  await guest.waitFor(/GUEST-READY/, BOOT_MILLISECONDS);
  await guest.run('mount -t tmpfs none /run');
  return { emulator, attachment, guest, storage };
}

async function measureRound(machine: Machine, results: Measured[][]): Promise<void> {
  const { attachment, guest } = machine;
  for (const { id } of await attachment.listSnapshots()) await attachment.deleteSnapshot(id);
  await guest.run('rm -f /run/bench');
  for (const [index, { name, command }] of MOMENTS.entries()) {
    const { status, output } = await guest.run(command, BOOT_MILLISECONDS);
    if (status !== 0) throw new Error(`"${command}" ended with status ${status}: ${output}`);
    results[index]!.push(await measure(machine, name));
  }
}

/** Saves and restores one moment, both ways. The machine stands still, so that it is one. */
async function measure({ emulator, attachment, storage }: Machine, name: string): Promise<Measured> {
  await attachment.quiesce();
  const before = storage.size;
  const [state, peerSave] = await timed(() => emulator.save_state());
  const [snapshot, saveMilliseconds] = await timed(() => attachment.saveSnapshot(name));
  const addedBytes = storage.size - before;
  const [, peerRestore] = await timed(() => emulator.restore_state(state));
  const [, restoreMilliseconds] = await timed(() => attachment.loadSnapshot(snapshot.id));
  await emulator.run();
  const peer = { save: peerSave, restore: peerRestore, bytes: state.byteLength };
  return { saveMilliseconds, restoreMilliseconds, addedBytes, peer };
}

async function timed<T>(run: () => Promise<T>): Promise<[T, number]> {
  const startedAt = performance.now();
  const result = await run();
  return [result, performance.now() - startedAt];
}

function rowOf(name: string, clusterSize: number, rounds: readonly Measured[]): string[] {
  const time = (own: (one: Measured) => number, peer: (one: Measured) => number): string => {
    const ratio = median(rounds.map((one) => own(one) / peer(one)));
    return `${median(rounds.map(own)).toFixed(0)} (${ratio.toFixed(1)} x)`;
  };
  const { addedBytes, peer } = rounds[0]!;
  const share = ((addedBytes / peer.bytes) * 100).toFixed(1);
  return [
    name,
    `${clusterSize / 1024} KiB`,
    time(
      (one) => one.saveMilliseconds,
      (one) => one.peer.save,
    ),
    time(
      (one) => one.restoreMilliseconds,
      (one) => one.peer.restore,
    ),
    `${(addedBytes / MEBIBYTE).toFixed(2)} (${share} %)`,
  ];
}
