/** A machine without a processor on a real image in memory, with its snapshots watched. */
import { expect } from 'vitest';
import { checkImage, createImage, localSnapshots, MemoryStorage, openImage, runToEnd } from '../../src/index.js';
import type { Qcow2Image } from '../../src/index.js';
import { attach, type Attachment } from '../../src/v86/attach.js';
import { localDisk, type LocalDiskOptions, type V86Disk } from '../../src/v86/v86-disk.js';
import { FakeEmulator, type FakeMachineOptions } from './fake-emulator.js';
import { FaultDisk } from './fault-disk.js';
import { MemoryDisk } from './memory-disk.js';
import { WatchedSnapshots } from './watched-snapshots.js';

export const DISK_BYTES = 2 ** 20;

export interface Machine {
  readonly storage: MemoryStorage;
  readonly image: Qcow2Image;
  readonly snapshots: WatchedSnapshots;
  readonly inner: FaultDisk;
  readonly disk: V86Disk;
  readonly emulator: FakeEmulator;
  readonly attachment: Attachment;
}

export function newStorage(backing: string | null = null): MemoryStorage {
  const storage = new MemoryStorage();
  const of = backing === null ? {} : { backing: { name: backing, format: 'raw' as const } };
  createImage(storage, { size: DISK_BYTES, clusterSize: 4096, ...of });
  return storage;
}

/** A running machine on the image in `storage`. */
export async function machineOn(
  storage: MemoryStorage,
  { name = 'disk', ...shape }: FakeMachineOptions & LocalDiskOptions = {},
): Promise<Machine> {
  const image = openImage(storage, { backing: new MemoryDisk(DISK_BYTES) });
  const snapshots = new WatchedSnapshots(localSnapshots(image));
  const inner = new FaultDisk(image);
  const told = Object.assign(inner, { clusterSize: image.clusterSize, header: image.header });
  const disk = localDisk(told, { name, snapshots });
  const emulator = new FakeEmulator(disk, shape);
  const attachment = await attach(emulator, disk);
  await emulator.run();
  emulator.calls.length = 0;
  return { storage, image, snapshots, inner, disk, emulator, attachment };
}

export const newMachine = (options: FakeMachineOptions & LocalDiskOptions = {}): Promise<Machine> =>
  machineOn(newStorage(), options);

/** The guest writes `value` to its memory and to its disk. */
export function live({ emulator, disk }: Machine, value: number): void {
  emulator.memory.fill(value, 8192, 20_000);
  disk.set(4096, new Uint8Array(512).fill(value), () => undefined);
}

/** What of `live` memory and disk hold now. */
export async function lived({ emulator, disk }: Machine): Promise<{ memory: number; disk: number }> {
  const sector = await new Promise<Uint8Array>((resolve) => disk.get(4096, 512, resolve));
  return { memory: emulator.memory[10_000]!, disk: sector[100]! };
}

export function expectSound({ image, storage }: Machine): void {
  image.flush();
  expect(runToEnd(checkImage(storage))).toMatchObject({ corruptions: 0, leaks: 0 });
}

export const names = async ({ attachment }: Machine): Promise<string[]> =>
  (await attachment.listSnapshots()).map(({ name }) => name);
