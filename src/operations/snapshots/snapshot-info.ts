/** What is known of an internal snapshot, and how one is asked for (spec, "Snapshots"). Types that cross threads as they are. */

export interface SnapshotInfo {
  /** Unique in the image. */
  readonly id: string;
  /** Need not be unique. */
  readonly name: string;
  /** When it was made: seconds since 1970, and nanoseconds. */
  readonly date: { readonly seconds: number; readonly nanoseconds: number };
  /** How long the VM had run, in nanoseconds. */
  readonly vmClock: bigint;
  /** Bytes of the VM's state; 0 for a snapshot of the disk alone. */
  readonly vmStateBytes: number;
  /** Bytes of the disk then. */
  readonly diskSize: number;
  /** Instructions that the VM had executed, where it counted them. */
  readonly instructionCount: bigint | null;
}

/** A snapshot and what it costs. */
export interface SnapshotUsage extends SnapshotInfo {
  /** Bytes of the file that nothing but this snapshot needs: what deleting it would free. */
  readonly ownBytes: number;
}

/** An id, or else a name: of several snapshots with that name, the first. Or one of the two expressly. */
export type SnapshotKey = string | { readonly id: string } | { readonly name: string };

export interface NewSnapshot {
  readonly name: string;
  /** One above the highest number in use, unless told. */
  readonly id?: string;
  /** Milliseconds since 1970, which may have a fraction, or what another snapshot has; now, unless told. */
  readonly date?: number | SnapshotInfo['date'];
  /** Nanoseconds that the VM has run; 0 unless told. */
  readonly vmClock?: bigint;
  readonly instructionCount?: bigint | null;
  /** Bytes of VM state, from `vmStateOffset` on, that become the snapshot's; the active disk has none afterwards. 0 unless told. */
  readonly vmStateBytes?: number;
  /**
   * What becomes of VM state behind `vmStateBytes`: it is dropped, unless told to `keep` it, as QEMU does: then both the snapshot and the
   * active disk have it.
   */
  readonly furtherVmState?: 'drop' | 'keep';
}

export interface VmStateOptions {
  /** A cluster that equals the one at the same offset in the VM state of this snapshot is shared with it. */
  readonly like?: SnapshotKey | null;
  /** Stores clusters compressed, as the image's compression type says. */
  readonly compress?: boolean;
}

/** What became of a piece of VM state, in bytes; the three together are its length. */
export interface VmStateWritten {
  readonly stored: number;
  readonly shared: number;
  readonly zero: number;
}
