/**
 * Block node: one opened file of the block graph, as QEMU's command line sees it. A format (`qcow2`, `raw`) stands on a
 * protocol (`file`, `blkdebug`, `null-co`), and a qcow2 node may stand over a backing node.
 *
 * A node is a `Disk` of the engine, so that the engine's operations take it; what QEMU's tools also ask for is added here.
 * Everything is synchronous but the opening, where keys are derived. Failures are thrown: `errorWords` of `text/errno.ts` has their words,
 * and `CliError` those of QEMU where it has a message.
 *
 *   qcow2 node --image--> Qcow2Image (the engine's) --file--> protocol node --storage--> the host's file
 *        \--backing--> the node below, read-only
 */
import type { Disk, GuestOffset, HostOffset } from '../../disk.js';
import type { Preallocation } from '../../image/preallocate.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import type { Storage } from '../../storage/storage.js';
import type { Console } from '../text/messages.js';
import type { Breakpoints } from './breakpoints.js';
import type { Secrets } from './secrets.js';

/** A value of an option: a string from the command line, or what a `json:` name holds. */
export type OptionValue = string | number | bigint | boolean | null;

/** Options of a node and of those below it, flat, with dotted names: `driver`, `file.filename`, `backing.file.locking`. */
export type NodeOptions = ReadonlyMap<string, OptionValue>;

/** What to open. QEMU's `bdrv_open(filename, NULL, options, flags)`. */
export interface NodeReference {
  /** A path, `json:{...}`, `protocol:...`; null where the options say it all. */
  readonly fileName: string | null;
  readonly options?: NodeOptions;
}

/** How the host's cache is used: QEMU's `-t`. Here only `writethrough` and `noFlush` change what is done. */
export interface CacheMode {
  /** Every write is followed by a flush. */
  readonly writethrough: boolean;
  /** Bypass the host's page cache. Noted, not done: Node has no aligned memory. */
  readonly direct: boolean;
  /** Flushes of the host's file are left out. */
  readonly noFlush: boolean;
}

/** How the graph is opened: QEMU's `BDRV_O_...`. All switches default to off. */
export interface OpenFlags {
  /** For warnings, and for what goes wrong where nobody can be told otherwise: at closing. */
  readonly console: Console;
  readonly readOnly?: boolean;
  /** `-U`: what another program may do to the file meanwhile does not matter. */
  readonly forceShare?: boolean;
  /** The backing file that the image names is not opened (`BDRV_O_NO_BACKING`). */
  readonly noBacking?: boolean;
  /** The guest's data are not looked at, so an encrypted image needs no key (`BDRV_O_NO_IO`). */
  readonly noIo?: boolean;
  /** For a check, which itself says what is wrong with the snapshot table (`BDRV_O_CHECK`). */
  readonly check?: boolean;
  /** `-s`: changes go to a temporary overlay, and are lost. */
  readonly snapshot?: boolean;
  /** Clusters that are read from the backing file are written to the image. */
  readonly copyOnRead?: boolean;
  /** Discarding is passed on to the host (`-d unmap`). */
  readonly unmap?: boolean;
  readonly cache?: CacheMode;
  /** Of `--object secret`. */
  readonly secrets?: Secrets;
}

/** What a run of bytes is in one node, without its backing node. QEMU's `bdrv_block_status`. */
export interface NodeStatus {
  /** Bytes for which the answer holds, from the offset that was asked for; at least 1. */
  readonly length: number;
  /** This node answers for them, and not the one below (`bdrv_is_allocated`). */
  readonly allocated: boolean;
  /** Bytes are stored for it. */
  readonly data: boolean;
  /** Known to read as zeroes. */
  readonly zero: boolean;
  /** Where they lie in the file, as they are; null for none such. */
  readonly host: HostOffset | null;
  readonly compressed: boolean;
}

/** What a run of bytes is, looked for down the chain. */
export interface ChainStatus extends NodeStatus {
  /** 0 for the node that was asked, 1 for its backing node, ... */
  readonly depth: number;
  /** The node that answered. */
  readonly node: BlockNode;
}

export interface WriteOptions {
  /** Stable when the call returns (`BDRV_REQ_FUA`). */
  readonly fua?: boolean;
}

export interface WriteZeroesOptions extends WriteOptions {
  readonly unmap?: boolean;
  /** Fail with ENOTSUP rather than write zeroes out. */
  readonly noFallback?: boolean;
}

export interface BlockNode extends Disk {
  /** `qcow2`, `raw`, `file`, `blkdebug`, `null-co`, ... */
  readonly driver: string;
  /** As `node-name` has it; empty for none. */
  readonly nodeName: string;
  /** As QEMU shows it: a path, `blkdebug:...` or `json:{...}`. */
  readonly fileName: string;
  /** The engine's image, for a qcow2 node; it is closed with the node. */
  readonly image: Qcow2Image | null;
  /** The node below, for one that has a backing file and opened it. */
  readonly backing: BlockNode | null;
  /** The node that this one's bytes lie in; null for `file` and the like. */
  readonly file: BlockNode | null;
  /** The node that an image keeps the guest's data in, where that is not its own file; also null where it was not opened. */
  readonly dataFile: BlockNode | null;
  /** False once an image was found corrupt in use: every request fails from then on. */
  readonly usable: boolean;
  /** Where requests can be held back; null where no `blkdebug` is below. */
  readonly breakpoints: Breakpoints | null;
  /** This node's content as a storage of the engine. Closing it closes the node. */
  readonly storage: Storage;
  /** Bytes that the host has given the file (`disk size` of `info`); null where it can't be told. */
  readonly allocatedBytes: number | null;

  write(offset: GuestOffset, source: Uint8Array, options?: WriteOptions): void;
  /** Throws ENOTSUP for a node that has no compression. */
  writeCompressed(offset: GuestOffset, source: Uint8Array): void;
  writeZeroes(offset: GuestOffset, length: number, options?: WriteZeroesOptions): void;
  /** The first run at `offset`; at most `length` bytes, which are more than 0 and inside the disk. */
  status(offset: GuestOffset, length: number): NodeStatus;
  /** Grows or shrinks. Throws `CliError` with QEMU's words. */
  resize(size: number, preallocation?: Preallocation): void;
  /** Other options for an open node. Throws `CliError` with QEMU's words; the node is as it was then. */
  reopen(change: ReopenChange): void;
}

/** `reopen` of qemu-io: what is not mentioned goes back to its default, as there. */
export interface ReopenChange {
  readonly readOnly: boolean;
  readonly options: NodeOptions;
}
