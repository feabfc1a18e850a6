/**
 * The flush hook: what v86 keeps from its disk object and a guest must know. It changes the prototype of v86's ATA
 * interface, once; an interface with any other disk behaves as before.
 *
 *   IDENTIFY (0xEC)           words 82 and 85, bit 5: there is a write cache, so that a guest sends FLUSH CACHE at all
 *   FLUSH CACHE (0xE7, 0xEA)  and STANDBY IMMEDIATE (0xE0): busy until the disk's flush is done; on failure an ATA
 *                             error, so the guest's fsync() gets EIO
 *   PIO write                 busy until the write is done, instead of success before it began
 *   failed read or write      status 0x51 and an interrupt at once, instead of 30 s of silence
 *   device reset              drops the answers to everything from before it
 *
 * Registers (ATA-6): status  7 BSY | 6 DRDY | 5 DF | 4 DSC | 3 DRQ | 0 ERR,  error  6 UNC | 2 ABRT.
 */
import { V86Disk, type AtaPort } from './v86-disk.js';
import type { AtaInterface, IdeController, V86Emulator } from './v86-types.js';

const STANDBY_IMMEDIATE = 0xe0;
const FLUSH_CACHE = 0xe7;
const FLUSH_CACHE_EXT = 0xea;
const FLUSHING_COMMANDS: ReadonlySet<number> = new Set([STANDBY_IMMEDIATE, FLUSH_CACHE, FLUSH_CACHE_EXT]);

const STATUS_BUSY = 0x80;
const STATUS_READY = 0x40 | 0x10;
const STATUS_FAILED = STATUS_READY | 0x01;
const ERROR_ABORTED = 0x04;
const ERROR_UNCORRECTABLE = 0x40;
const NO_COMMAND = -1;
const DMA_ACTIVE = 1;
const DMA_ERROR = 2;

/** Byte offsets of IDENTIFY words 82 (supported) and 85 (enabled); bit 5 is the write cache. */
const IDENTIFY_WRITE_CACHE_BYTES = [82 * 2, 85 * 2] as const;
const IDENTIFY_WRITE_CACHE_BIT = 1 << 5;

const METHODS = [
  'ata_command',
  'create_identify_packet',
  'do_write',
  'device_reset',
  'cancel_io_operations',
  'push_irq',
] as const;
/** What has to be of a type, by where it is. */
const FIELDS = [
  ['number', 'status_reg', 'error_reg', 'current_command', 'channel.irq', 'channel.dma_status'],
  ['function', 'cpu.device_lower_irq'],
] as const;

/** What the hook needs and `candidate` lacks, by name; empty where the seam is whole. */
export function missingFromSeam(candidate: unknown): string[] {
  if (!isRecord(candidate)) return ['the ATA interface that holds the disk'];
  const prototype: unknown = Object.getPrototypeOf(candidate);
  const missing: string[] = METHODS.filter((name) => !isRecord(prototype) || typeof prototype[name] !== 'function');
  if (!('is_atapi' in candidate)) missing.push('is_atapi');
  if (!(candidate['data'] instanceof Uint8Array)) missing.push('data');
  for (const [type, ...paths] of FIELDS) {
    missing.push(...paths.filter((path) => typeof valueAt(candidate, path) !== type));
  }
  return missing;
}

/** The drive position that holds `disk`, or null: not loaded yet, or v86 keeps it elsewhere by now. */
export function findDrive(emulator: V86Emulator, disk: V86Disk): unknown {
  const ide: IdeController | undefined = emulator.v86?.cpu?.devices?.ide;
  for (const channel of [ide?.primary, ide?.secondary]) {
    for (const candidate of [channel?.master, channel?.slave]) {
      if (isRecord(candidate) && candidate['buffer'] === disk) return candidate;
    }
  }
  return null;
}

/** Installs the hook for `disk`. Returns what of the seam is missing, by name; nothing is changed unless that is empty. */
export function installAtaHook(emulator: V86Emulator, disk: V86Disk): string[] {
  const target = findDrive(emulator, disk);
  if (!isAtaInterface(target)) return missingFromSeam(target);
  patchOnce(Object.getPrototypeOf(target) as AtaInterface);
  disk.port = portOf(target);
  return [];
}

function isAtaInterface(candidate: unknown): candidate is AtaInterface {
  return missingFromSeam(candidate).length === 0;
}

function valueAt(candidate: unknown, path: string): unknown {
  return path.split('.').reduce((value, name) => (isRecord(value) ? value[name] : undefined), candidate);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function portOf(target: AtaInterface): AtaPort {
  return {
    failCommand: (operation) => {
      target.cancel_io_operations();
      target.channel.dma_status = (target.channel.dma_status & ~DMA_ACTIVE) | DMA_ERROR;
      endCommand(target, operation === 'read' ? ERROR_UNCORRECTABLE : ERROR_ABORTED);
    },
  };
}

/** Ends the command under way with success (`error` 0) or with an error, and interrupts the guest. */
function endCommand(target: AtaInterface, error: number): void {
  target.error_reg = error;
  target.status_reg = error === 0 ? STATUS_READY : STATUS_FAILED;
  if (error !== 0) target.current_command = NO_COMMAND;
  target.push_irq();
}

function markBusy(target: AtaInterface): void {
  target.status_reg = STATUS_BUSY;
  target.cpu.device_lower_irq(target.channel.irq);
}

const patchedPrototypes = new WeakSet<AtaInterface>();

/** The hooked disk of an interface, or null: a CD-ROM, an empty position, a disk of another kind. */
function diskOf(target: AtaInterface): V86Disk | null {
  const { buffer } = target;
  return !target.is_atapi && buffer instanceof V86Disk && buffer.port ? buffer : null;
}

function patchOnce(prototype: AtaInterface): void {
  if (patchedPrototypes.has(prototype)) return;
  patchedPrototypes.add(prototype);
  const { ata_command, create_identify_packet, do_write, device_reset } = prototype;

  prototype.create_identify_packet = function () {
    create_identify_packet.call(this);
    if (diskOf(this)) for (const offset of IDENTIFY_WRITE_CACHE_BYTES) this.data[offset]! |= IDENTIFY_WRITE_CACHE_BIT;
  };
  prototype.ata_command = function (command) {
    const disk = diskOf(this);
    if (disk && FLUSHING_COMMANDS.has(command)) flushForGuest(this, disk, command);
    else ata_command.call(this, command);
  };
  prototype.do_write = function () {
    do_write.call(this);
    const disk = diskOf(this);
    if (disk) holdUntilWritten(this, disk);
  };
  prototype.device_reset = function () {
    diskOf(this)?.reset();
    device_reset.call(this);
  };
}

function flushForGuest(target: AtaInterface, disk: V86Disk, command: number): void {
  const { epoch } = disk;
  target.current_command = command;
  target.error_reg = 0;
  markBusy(target);
  const finish = (error: number): void => {
    if (epoch === disk.epoch) endCommand(target, error);
  };
  disk.flush().then(
    () => finish(0),
    () => finish(ERROR_ABORTED),
  );
}

/**
 * v86 has told the guest that a PIO write succeeded, and has called `set` only then. The interrupt is not delivered before
 * v86's main loop goes on, so what is not done yet can still be made busy; a failure ends it through the port.
 */
function holdUntilWritten(target: AtaInterface, disk: V86Disk): void {
  const write = disk.lastWrite;
  if (!write || write.state === 'done') return;
  markBusy(target);
  if (write.state === 'pending') write.whenDone = () => endCommand(target, 0);
}
