/** A disk over another one that counts its flushes and fails where a test says. */
import type { Disk, Extent } from '../../src/disk.js';

export class FaultDisk implements Disk {
  flushes = 0;
  failFlush = false;
  /** Reads and writes that touch this guest offset fail. */
  failReadAt: number | null = null;
  failWriteAt: number | null = null;

  constructor(readonly inner: Disk) {}

  get size(): number {
    return this.inner.size;
  }

  get readOnly(): boolean {
    return this.inner.readOnly;
  }

  read(offset: number, target: Uint8Array): void {
    if (covers(offset, target.length, this.failReadAt)) throw new Error('injected read error');
    this.inner.read(offset, target);
  }

  write(offset: number, source: Uint8Array): void {
    if (covers(offset, source.length, this.failWriteAt)) throw new Error('injected write error');
    this.inner.write(offset, source);
  }

  writeZeroes(offset: number, length: number): void {
    this.inner.writeZeroes(offset, length);
  }

  discard(offset: number, length: number): void {
    this.inner.discard(offset, length);
  }

  extents(offset: number, length: number): Iterable<Extent> {
    return this.inner.extents(offset, length);
  }

  flush(): void {
    if (this.failFlush) throw new Error('injected flush error');
    this.flushes++;
    this.inner.flush();
  }

  close(): void {
    this.inner.close();
  }
}

function covers(offset: number, length: number, place: number | null): boolean {
  return place !== null && offset <= place && place < offset + length;
}
