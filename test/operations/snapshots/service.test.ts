/** The service that sessions are made of: what it keeps open must not outlive what it is. And the guest works on meanwhile. */
import { describe, expect, it } from 'vitest';
import {
  checkImage,
  createImage,
  createSnapshot,
  deleteSnapshot,
  MemoryStorage,
  openImage,
  openSnapshot,
  runToEnd,
  type Qcow2Image,
} from '../../../src/index.js';
import { SnapshotService } from '../../../src/operations/snapshots/snapshot-service.js';

const STATE_BYTES = 12_288;

function fresh(): { storage: MemoryStorage; image: Qcow2Image; service: SnapshotService } {
  const storage = new MemoryStorage();
  createImage(storage, { size: 0x10_0000, clusterSize: 4096 });
  const image = openImage(storage);
  return { storage, image, service: new SnapshotService(image) };
}

function save(service: SnapshotService, byte: number, like: string | null = null): string {
  service.writeVmState(0, new Uint8Array(STATE_BYTES).fill(byte), { like });
  return service.create({ name: `state ${byte}`, vmStateBytes: STATE_BYTES }).id;
}

function firstByte(service: SnapshotService, id: string): number {
  const read = new Uint8Array(STATE_BYTES);
  service.readVmState(id, 0, read);
  expect(new Set(read).size).toBe(1);
  return read[0]!;
}

describe('the service for snapshots', () => {
  it('reads the snapshot of today where an id is given again, even if it was read while the old one went', () => {
    const { service } = fresh();
    const id = save(service, 7);
    const steps = service.delete(id);
    expect(firstByte(service, id)).toBe(7);
    runToEnd(steps);
    expect(() => firstByte(service, id)).toThrow(/there is no snapshot/);
    expect(save(service, 9)).toBe(id);
    expect(firstByte(service, id)).toBe(9);
  });

  it('does the same where somebody else deleted the old one', () => {
    const { image, service } = fresh();
    const id = save(service, 7);
    expect(firstByte(service, id)).toBe(7);
    runToEnd(deleteSnapshot(image, { id }));
    expect(() => firstByte(service, id)).toThrow(/there is no snapshot/);
    expect(save(service, 9)).toBe(id);
    expect(firstByte(service, id)).toBe(9);
  });

  it('shares nothing with a snapshot that is gone', () => {
    const { storage, image, service } = fresh();
    const id = save(service, 7);
    expect(firstByte(service, id)).toBe(7);
    runToEnd(service.delete(id));
    expect(() => save(service, 7, id)).toThrow(/there is no snapshot/);
    expect(save(service, 7)).toBe(id);
    expect(save(service, 7, id)).toBe('2');
    image.close();
    expect(runToEnd(checkImage(storage)).findings).toEqual([]);
  });

  it('drops the VM state with a goto, and keeps that of the snapshot', () => {
    const { service } = fresh();
    const one = save(service, 1);
    const two = save(service, 2, one);
    service.goto(one);
    expect([firstByte(service, one), firstByte(service, two)]).toEqual([1, 2]);
    expect(service.list().map(({ id }) => id)).toEqual([one, two]);
  });
});

describe('deleting a snapshot bit by bit', () => {
  it('lets the guest write between the steps, and leaves nothing behind', () => {
    const storage = new MemoryStorage();
    const clusterSize = 0x20_0000;
    const coverage = (clusterSize / 8) * clusterSize;
    createImage(storage, { size: 7 * coverage, clusterSize });
    const image = openImage(storage);
    const places = [0, 1, 2, 3, 4, 5, 6].map((table) => table * coverage + 5000);
    for (const place of places) image.write(place, new Uint8Array(100).fill(1));
    createSnapshot(image, { name: 'goes' });
    for (const place of places) image.write(place, new Uint8Array(100).fill(2));
    createSnapshot(image, { name: 'stays' });
    const steps = deleteSnapshot(image, 'goes');
    let taken = 0;
    for (const { done, total } of steps) {
      expect(done).toBeLessThanOrEqual(total);
      image.write(places[taken]!, new Uint8Array(100).fill(3));
      image.discard(places[taken + 1]! - 5000, clusterSize);
      if (taken % 2 === 0) image.flush();
      taken++;
    }
    expect(taken).toBeGreaterThan(3);
    const first = (disk: { read(offset: number, target: Uint8Array): void }) =>
      places.map((place) => {
        const read = new Uint8Array(1);
        disk.read(place, read);
        return read[0];
      });
    expect(first(openSnapshot(image, 'stays'))).toEqual(places.map(() => 2));
    expect(first(image)).toEqual(places.map((_, index) => (index < taken ? 3 : index === taken ? 0 : 2)));
    image.close();
    expect(runToEnd(checkImage(storage)).findings).toEqual([]);
  });

  it('has changed nothing where it is given up', () => {
    const { storage, image } = fresh();
    image.write(0, new Uint8Array(50_000).fill(1));
    createSnapshot(image, { name: 'a' });
    image.flush();
    const before = storage.toBytes();
    deleteSnapshot(image, 'a').return?.();
    expect(Buffer.compare(storage.toBytes(), before)).toBe(0);
  });
});
