/**
 * The seam between this package and v86, on the v86 that is installed. A failure here means: v86 has moved; read its build
 * again, adapt `src/v86/v86-types.ts` and `src/v86/ata-hook.ts`, then the version below.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { V86 } from 'v86';
import { findDrive, missingFromSeam } from '../../src/v86/ata-hook.js';
import { attach, type Attachment } from '../../src/v86/attach.js';
import { RunningTime } from '../../src/v86/running-time.js';
import { readSavedState } from '../../src/v86/saved-state.js';
import { localDisk, type DiskFault, type V86Disk } from '../../src/v86/v86-disk.js';
import type { AtaInterface, V86Emulator } from '../../src/v86/v86-types.js';
import { unshiftTimeStamps } from '../../src/v86/time-stamp.js';
import { FaultDisk } from './fault-disk.js';
import { createMachine, V86_BUILD } from './machine.js';
import { MemoryDisk } from './memory-disk.js';

const KNOWN_VERSION = '0.5.462';
const MOVED = `v86 has moved from what this package was written against (${KNOWN_VERSION})`;

const IDENTIFY = 0xec;
const FLUSH_CACHE = 0xe7;
const READ_SECTORS = 0x20;
const WRITE_SECTORS = 0x30;
const READ_DMA = 0xc8;

/** Names that only this test uses: it plays the guest. */
interface AtaRegisters extends AtaInterface {
  is_lba: number;
  head: number;
  lba_low_reg: number;
  lba_mid_reg: number;
  lba_high_reg: number;
  sector_count_reg: number;
  drive_connected: boolean;
  read_data(length: number): number;
  write_data_port32(value: number): void;
  do_ata_read_sectors_dma(): void;
  in_progress_io_ids: Map<number, AbortController>;
  cancelled_io_ids: Set<number>;
}

const faults: DiskFault[] = [];
const inner = new FaultDisk(new MemoryDisk(8 * 2 ** 20));
let emulator: V86;
let disk: V86Disk;
let attachment: Attachment;
let drive: AtaRegisters;

const microtasks = () => new Promise((resolve) => setTimeout(resolve, 1));

/** Issues a command for one sector at `sector`. */
function command(code: number, sector: number): void {
  drive.is_lba = 1;
  drive.head = 0;
  [drive.lba_low_reg, drive.lba_mid_reg, drive.lba_high_reg] = [sector & 255, (sector >> 8) & 255, sector >> 16];
  drive.sector_count_reg = 1;
  drive.ata_command(code);
}

beforeAll(async () => {
  inner.write(510, Uint8Array.of(0x55, 0xaa));
  disk = localDisk(inner, { name: 'contract', onError: (fault) => faults.push(fault) });
  emulator = createMachine(disk);
  attachment = await attach(emulator, disk);
  drive = findDrive(emulator as V86Emulator, disk) as AtaRegisters;
});

describe('the installed v86', () => {
  it(`is version ${KNOWN_VERSION}, the one whose seam was read`, () => {
    const { version } = JSON.parse(readFileSync(join(V86_BUILD, '../package.json'), 'utf8')) as { version: string };
    expect(version.split('+')[0], MOVED).toBe(KNOWN_VERSION);
  });

  it('takes our object as hda and puts it, unwrapped, behind an ATA interface with all the names we use', () => {
    expect(drive, `${MOVED}: no interface of devices.ide holds the disk`).not.toBeNull();
    expect(missingFromSeam(drive), MOVED).toEqual([]);
    expect(attachment.seam, MOVED).toBe('flush-hook');
    expect(drive.in_progress_io_ids, MOVED).toBeInstanceOf(Map);
    expect(drive.cancelled_io_ids, MOVED).toBeInstanceOf(Set);
  });

  it('says what is missing from an interface of another shape', () => {
    expect(missingFromSeam(null)).toEqual(['the ATA interface that holds the disk']);
    expect(missingFromSeam({ data: new Uint8Array(1), channel: { irq: 14 } })).toEqual(
      expect.arrayContaining(['ata_command', 'push_irq', 'status_reg', 'is_atapi', 'channel.dma_status']),
    );
  });

  it('gives state that v86 can save: no disk bytes', async () => {
    const state = await emulator.save_state();
    expect(state.byteLength).toBeGreaterThan(0);
    expect(disk.get_state()).toEqual(['contract', 8 * 2 ** 20, expect.any(Number)]);
  });
});

describe('a saved state', () => {
  it('is in the format that we take apart: version, sizes, devices, RAM as packed pages and a bitmap', async () => {
    const { shape, ram, buffers } = readSavedState(await emulator.save_state());
    expect(shape, MOVED).toMatchObject({ stateVersion: 6, memoryBytes: 64 * 2 ** 20, vgaBytes: 2 * 2 ** 20 });
    expect(shape.devices, MOVED).toEqual(expect.arrayContaining([52, 85]));
    expect(ram, MOVED).not.toBeNull();
    expect(ram!.bitmap.length, MOVED).toBe((64 * 2 ** 20) / 4096 / 8);
    expect(
      buffers.some(({ length }) => length === 2 * 2 ** 20),
      MOVED,
    ).toBe(true);
  });
});

describe('the emulator', () => {
  it('tells when it starts and stops', async () => {
    const time = new RunningTime(emulator);
    await emulator.run();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(time.total, MOVED).toBeGreaterThan(10);
    await emulator.stop();
    const { total } = time;
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(time.total, MOVED).toBe(total);
    time.dispose();
  });

  it('counts its instructions', async () => {
    const before = emulator.get_instruction_counter();
    await emulator.run();
    await new Promise((resolve) => setTimeout(resolve, 20));
    await emulator.stop();
    expect(emulator.get_instruction_counter(), MOVED).not.toBe(before);
  });
});

describe('the time stamp counter', () => {
  const processor = () => (emulator as unknown as V86Emulator).v86!.cpu!;
  const read = (): number => {
    const cpu = processor();
    expect(typeof cpu.store_current_tsc, MOVED).toBe('function');
    cpu.store_current_tsc!();
    const [low = 0, high = 0] = cpu.current_tsc!;
    return high * 2 ** 32 + low;
  };

  it('is what it is set to for the second time, too, once its shift has been taken back', () => {
    processor().set_tsc!(0, 0x1000);
    expect(Math.floor(read() / 2 ** 32), MOVED).toBe(0x1000);
    unshiftTimeStamps(emulator);
    processor().set_tsc!(0, 0x2000);
    expect(Math.floor(read() / 2 ** 32), MOVED).toBe(0x2000);
  });
});

describe('the flush hook', () => {
  it('tells the guest that there is a write cache', () => {
    drive.ata_command(IDENTIFY);
    expect(drive.data[82 * 2]! & 0x20).toBe(0x20);
    expect(drive.data[85 * 2]! & 0x20).toBe(0x20);
  });

  it('keeps FLUSH CACHE busy until the disk has flushed', async () => {
    const before = inner.flushes;
    drive.ata_command(FLUSH_CACHE);
    expect(drive.status_reg).toBe(0x80);
    await microtasks();
    expect(drive.status_reg).toBe(0x50);
    expect(inner.flushes).toBe(before + 1);
  });

  it('ends FLUSH CACHE with an error when the flush fails', async () => {
    inner.failFlush = true;
    drive.ata_command(FLUSH_CACHE);
    await microtasks();
    inner.failFlush = false;
    expect([drive.status_reg, drive.error_reg]).toEqual([0x51, 0x04]);
  });

  it('drops the answer to a flush from before a reset', async () => {
    drive.ata_command(FLUSH_CACHE);
    drive.device_reset();
    const status = drive.status_reg;
    await microtasks();
    expect(drive.status_reg).toBe(status);
  });
});

describe('an I/O error', () => {
  it('ends a PIO read with an ATA error, and the next read is answered', async () => {
    inner.failReadAt = 20 * 512;
    command(READ_SECTORS, 20);
    await microtasks();
    inner.failReadAt = null;
    expect([drive.status_reg, drive.error_reg]).toEqual([0x51, 0x40]);
    expect(drive.in_progress_io_ids.size + drive.cancelled_io_ids.size).toBe(0);
    inner.write(20 * 512, new Uint8Array(512).fill(0x11));
    command(READ_SECTORS, 20);
    expect(drive.status_reg).toBe(0x58);
    expect(drive.read_data(4)).toBe(0x11111111);
  });

  it('ends a DMA read with an ATA error and the error bit of the bus master', async () => {
    inner.failReadAt = 30 * 512;
    command(READ_DMA, 30);
    drive.do_ata_read_sectors_dma();
    await microtasks();
    inner.failReadAt = null;
    expect([drive.status_reg, drive.error_reg, drive.channel.dma_status & 3]).toEqual([0x51, 0x40, 2]);
    expect(faults.at(-1)).toMatchObject({ operation: 'read', offset: 30 * 512, length: 512 });
  });

  it('ends a PIO write with an ATA error instead of the success v86 gave before the write', async () => {
    inner.failWriteAt = 40 * 512;
    command(WRITE_SECTORS, 40);
    for (let word = 0; word < 128; word++) drive.write_data_port32(0x22222222);
    expect(drive.status_reg).toBe(0x80);
    await microtasks();
    inner.failWriteAt = null;
    expect([drive.status_reg, drive.error_reg]).toEqual([0x51, 0x04]);
    command(WRITE_SECTORS, 40);
    for (let word = 0; word < 128; word++) drive.write_data_port32(0x22222222);
    expect(drive.status_reg).toBe(0x50);
    const sector = new Uint8Array(512);
    inner.read(40 * 512, sector);
    expect(sector).toEqual(new Uint8Array(512).fill(0x22));
  });
});
