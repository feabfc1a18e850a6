/**
 * The disk as a machine holds it: the machine keeps this one while the OPFS disk behind it is replaced by another with the same
 * content. It also tells what the guest reads and writes.
 */
import type { DiskInfo, DiskStats, RemoteDisk, RemoteSnapshots } from 'qcow2-wasm/opfs';

export type OnTransfer = (kind: 'read' | 'write', offset: number, length: number) => void;

type Bytes = Parameters<RemoteDisk['write']>[1];

/** With the signal that ends waiting for a server, as when the guest resets its controller. */
type WaitOptions = Parameters<RemoteDisk['write']>[2];

export class GuestDisk implements RemoteDisk {
  readonly snapshots: RemoteSnapshots = {
    list: () => this.#disk.snapshots.list(),
    create: (snapshot) => this.#disk.snapshots.create(snapshot),
    goto: (id) => this.#disk.snapshots.goto(id),
    delete: (id) => this.#disk.snapshots.delete(id),
    readVmState: (id, offset, length) => this.#disk.snapshots.readVmState(id, offset, length),
    writeVmState: (offset, source, options) => this.#disk.snapshots.writeVmState(offset, source, options),
    discardVmState: () => this.#disk.snapshots.discardVmState(),
  };
  readonly #onTransfer: OnTransfer;
  #disk: RemoteDisk;

  constructor(disk: RemoteDisk, onTransfer: OnTransfer) {
    this.#disk = disk;
    this.#onTransfer = onTransfer;
  }

  /** Only while no request is under way and all writes are stable. @param disk holds the same. */
  replace(disk: RemoteDisk): void {
    this.#disk = disk;
  }

  get info(): DiskInfo {
    return this.#disk.info;
  }

  read(offset: number, length: number, options?: WaitOptions): Promise<Bytes> {
    this.#onTransfer('read', offset, length);
    return this.#disk.read(offset, length, options);
  }

  write(offset: number, source: Bytes, options?: WaitOptions): Promise<void> {
    this.#onTransfer('write', offset, source.length);
    return this.#disk.write(offset, source, options);
  }

  writeZeroes(offset: number, length: number, options?: WaitOptions): Promise<void> {
    return this.#disk.writeZeroes(offset, length, options);
  }

  discard(offset: number, length: number, options?: WaitOptions): Promise<void> {
    return this.#disk.discard(offset, length, options);
  }

  flush(): Promise<void> {
    return this.#disk.flush();
  }

  stats(): Promise<DiskStats> {
    return this.#disk.stats();
  }

  close(): Promise<void> {
    return this.#disk.close();
  }
}
