/** The smallest disk there is: a byte array. For tests of what lies above the engine. */
import type { Disk, Extent } from '../../src/disk.js';

export class MemoryDisk implements Disk {
  readonly bytes: Uint8Array;
  readonly readOnly = false;

  constructor(sizeOrBytes: number | Uint8Array) {
    this.bytes = typeof sizeOrBytes === 'number' ? new Uint8Array(sizeOrBytes) : sizeOrBytes;
  }

  get size(): number {
    return this.bytes.length;
  }

  read(offset: number, target: Uint8Array): void {
    target.set(this.bytes.subarray(offset, offset + target.length));
  }

  write(offset: number, source: Uint8Array): void {
    this.bytes.set(source, offset);
  }

  writeZeroes(offset: number, length: number): void {
    this.bytes.fill(0, offset, offset + length);
  }

  discard(): void {}

  extents(offset: number, length: number): Iterable<Extent> {
    return [{ kind: 'data', offset, length, host: offset }];
  }

  flush(): void {}

  close(): void {}
}
