import { describe, expect, it } from 'vitest';
import { isQcow2Error, Qcow2Error } from '../../src/errors.js';
import { NotResident } from '../../src/storage/not-resident.js';
import { localDisk, MAXIMUM_DISK_BYTES, remoteDisk, V86Disk, type DiskFault } from '../../src/v86/v86-disk.js';
import type { RemoteDisk } from '../../src/worker/remote-disk.js';
import { createImage, localSnapshots, MemoryStorage, openImage } from '../../src/index.js';
import { FaultDisk } from './fault-disk.js';
import { MemoryDisk } from './memory-disk.js';

const later = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function noSnapshots(): RemoteDisk['snapshots'] {
  const storage = new MemoryStorage();
  createImage(storage, { size: 512 });
  return localSnapshots(openImage(storage));
}

/** A remote whose reads are fast and whose writes are slow, and which keeps no order of its own. */
function delayedRemote(size: number, delay: { read: number; write: number }): RemoteDisk & { bytes: Uint8Array } {
  const bytes = new Uint8Array(size);
  const info = { size, readOnly: false, path: 'disks/a.qcow2', version: 3, clusterSize: 65536 } as const;
  return {
    bytes,
    info: { ...info, refcountBits: 16, lazyRefcounts: false, encryption: null, cipher: null, backingFile: null },
    snapshots: noSnapshots(),
    read: async (offset, length) => {
      await later(delay.read);
      return bytes.slice(offset, offset + length);
    },
    write: async (offset, source) => {
      await later(delay.write);
      bytes.set(source, offset);
    },
    flush: () => later(delay.write).then(() => undefined),
    writeZeroes: () => Promise.resolve(),
    discard: () => Promise.resolve(),
    stats: () => Promise.reject(new Error('not asked for here')),
    close: () => Promise.resolve(),
  };
}

const read = (disk: V86Disk, offset: number, length: number) =>
  new Promise<Uint8Array>((resolve) => disk.get(offset, length, (data) => resolve(data.slice())));

describe('a disk in the emulator thread', () => {
  it('answers before get and set return', () => {
    const disk = localDisk(new MemoryDisk(4096));
    let answered = 0;
    disk.set(512, new Uint8Array(512).fill(7), () => answered++);
    disk.get(512, 512, (data) => {
      expect(data).toEqual(new Uint8Array(512).fill(7));
      answered++;
    });
    expect(answered).toBe(2);
  });

  it('waits for what is not resident, and later requests wait behind it', async () => {
    const inner = new MemoryDisk(new Uint8Array(4096).fill(1));
    let resident = false;
    const remote = new FaultDisk(inner);
    remote.read = (offset, target) => {
      if (!resident) {
        throw new NotResident('chunk 0', async () => {
          await later(5);
          resident = true;
        });
      }
      inner.read(offset, target);
    };
    const disk = localDisk(remote);
    const order: string[] = [];
    const first = new Promise<Uint8Array>((resolve) => {
      disk.get(0, 512, (data) => {
        order.push('read');
        resolve(data);
      });
    });
    disk.set(0, new Uint8Array(512).fill(2), () => order.push('write'));
    expect(disk.activity.inFlight).toBe(2);
    expect((await first)[0]).toBe(1);
    await disk.whenIdle();
    expect(order).toEqual(['read', 'write']);
    expect((await read(disk, 0, 512))[0]).toBe(2);
  });
});

describe('a disk held by a worker', () => {
  it('never lets a read pass an earlier write', async () => {
    const disk = remoteDisk(delayedRemote(4096, { read: 0, write: 20 }));
    disk.set(1024, new Uint8Array(512).fill(9), () => undefined);
    expect(await read(disk, 1024, 512)).toEqual(new Uint8Array(512).fill(9));
  });

  it('copies in set: what v86 does to its buffer afterwards does not reach the disk', async () => {
    const remote = delayedRemote(4096, { read: 0, write: 5 });
    const disk = remoteDisk(remote);
    const live = new Uint8Array(65536).fill(3);
    disk.set(0, live.subarray(0, 512), () => undefined);
    live.fill(4);
    await disk.whenIdle();
    expect(remote.bytes.subarray(0, 512)).toEqual(new Uint8Array(512).fill(3));
    expect(live.byteLength).toBe(65536);
  });

  it('keeps sector 0 in the cache as new as the last write, even if an older read ends later', async () => {
    const disk = remoteDisk(delayedRemote(4096, { read: 10, write: 0 }));
    const cached = new Promise((resolve) => disk.get_and_cache(0, 512, resolve));
    disk.set(0, new Uint8Array(512).fill(5), () => undefined);
    await cached;
    expect(disk.get_from_cache(0, 512)).toBeUndefined();
    await new Promise((resolve) => disk.get_and_cache(0, 512, resolve));
    expect(disk.get_from_cache(0, 512)).toEqual(new Uint8Array(512).fill(5));
    disk.set(256, new Uint8Array(256).fill(6), () => undefined);
    expect(disk.get_from_cache(256, 256)).toEqual(new Uint8Array(256).fill(6));
  });

  it('is dirty from a write until a flush that came after it', async () => {
    const disk = remoteDisk(delayedRemote(4096, { read: 0, write: 2 }));
    disk.set(0, new Uint8Array(512), () => undefined);
    const flushed = disk.flush();
    disk.set(512, new Uint8Array(512), () => undefined);
    await flushed;
    expect(disk.activity.dirty).toBe(true);
    await disk.flush();
    expect(disk.activity).toMatchObject({ dirty: false, writes: 2, writtenBytes: 1024, flushes: 2 });
  });
});

describe('a disk object', () => {
  it('refuses what v86 cannot address, and names size and limit', () => {
    const huge = { size: 2 ** 41, readOnly: false } as MemoryDisk;
    try {
      localDisk(huge);
      expect.unreachable();
    } catch (error) {
      expect(isQcow2Error(error, 'LIMIT')).toBe(true);
      expect(String(error)).toContain(String(2 ** 41));
      expect(String(error)).toContain(String(MAXIMUM_DISK_BYTES));
    }
    expect(() => localDisk(new MemoryDisk(100))).toThrow('less than one sector');
  });

  it('shows whole sectors only', () => {
    expect(localDisk(new MemoryDisk(1000)).byteLength).toBe(512);
  });

  it('saves a name, a size and a generation, and takes them back only for the same disk', () => {
    const disk = localDisk(new MemoryDisk(4096), { name: 'a' });
    disk.set(0, new Uint8Array(512), () => undefined);
    expect(disk.get_state()).toEqual(['a', 4096, 1]);
    expect(() => localDisk(new MemoryDisk(4096), { name: 'a' }).set_state(disk.get_state())).not.toThrow();
    expect(() => localDisk(new MemoryDisk(4096), { name: 'b' }).set_state(disk.get_state())).toThrow('disk "a"');
    expect(() => localDisk(new MemoryDisk(8192), { name: 'a' }).set_state(disk.get_state())).toThrow('4096 bytes');
  });

  it('refuses a state that is none of a disk', () => {
    const disk = localDisk(new MemoryDisk(4096), { name: 'a' });
    for (const state of [null, undefined, 7, [], ['a', 4096, 'many']]) {
      expect(() => disk.set_state(state)).toThrow(expect.objectContaining({ code: 'BAD_ARGUMENT' }));
    }
  });

  it('takes the state of a disk of another name only while it becomes a snapshot', async () => {
    const disk = localDisk(new MemoryDisk(4096), { name: 'a' });
    await disk.becomeSnapshot(async () => disk.set_state(['b', 4096, 1]));
    expect(() => disk.set_state(['b', 4096, 1])).toThrow('disk "b"');
    await expect(disk.becomeSnapshot(async () => disk.set_state(['b', 8192, 1]))).rejects.toThrow('8192 bytes');
    expect(() => disk.set_state(['b', 4096, 1])).toThrow('disk "b"');
  });

  it('knows of the image behind it what it was told', () => {
    const storage = new MemoryStorage();
    createImage(storage, { size: 4096, clusterSize: 4096, backing: { name: 'base', format: 'raw' } });
    const image = openImage(storage, { backing: new MemoryDisk(4096) });
    const snapshots = localSnapshots(image);
    expect(localDisk(image, { snapshots }).source).toMatchObject({ snapshots, clusterSize: 4096, backingFile: 'base' });
    expect(localDisk(new MemoryDisk(4096)).source).toMatchObject({ snapshots: null, backingFile: null });
    const remote = delayedRemote(4096, { read: 0, write: 0 });
    expect(remoteDisk(remote).source).toMatchObject({ snapshots: remote.snapshots, clusterSize: 65536 });
  });

  it('reports a failed request and gives v86 no bytes for it', async () => {
    const faults: DiskFault[] = [];
    const inner = new FaultDisk(new MemoryDisk(4096));
    const disk = localDisk(inner, { onError: (fault) => faults.push(fault) });
    inner.failReadAt = 1024;
    let answered = false;
    disk.get(1024, 512, () => (answered = true));
    await later(1);
    expect(answered).toBe(false);
    expect(faults).toHaveLength(1);
    expect(faults[0]).toMatchObject({ operation: 'read', offset: 1024, length: 512 });
    expect(faults[0]!.error).toMatchObject({ code: 'IO', message: expect.stringContaining('injected') as string });
    inner.failFlush = true;
    await expect(disk.flush()).rejects.toMatchObject({ code: 'IO' });
    expect(disk.activity.errors).toBe(2);
  });
});

describe('a read that v86 cancels while it waits for a server', () => {
  const neverComes = (disk: MemoryDisk): void => {
    disk.read = () => {
      throw new NotResident(
        'nothing is here',
        (signal) =>
          new Promise((_, reject) =>
            signal?.addEventListener('abort', () => reject(new Qcow2Error('ABORTED', 'reset'))),
          ),
      );
    };
  };

  it.each(['local', 'remote'] as const)(
    'is given up there, is no fault, and lets the next one come (%s)',
    async (kind) => {
      const faults: DiskFault[] = [];
      const onError = (fault: DiskFault): number => faults.push(fault);
      const memory = new MemoryDisk(4096);
      const remote = delayedRemote(4096, { read: 0, write: 0 });
      if (kind === 'local') neverComes(memory);
      const { read: answer } = remote;
      remote.read = (_, __, options) =>
        new Promise((_resolve, reject) => {
          options?.signal?.addEventListener('abort', () => reject(new Qcow2Error('ABORTED', 'reset')));
        });
      const disk = kind === 'local' ? localDisk(memory, { onError }) : remoteDisk(remote, { onError });
      const reset = new AbortController();
      const cancelled = new Promise<Uint8Array>((resolve) => disk.get(512, 512, resolve, { signal: reset.signal }));
      await later(1);
      expect(disk.activity.inFlight).toBe(1);
      remote.read = answer;
      memory.read = (offset, target) => MemoryDisk.prototype.read.call(memory, offset, target);
      reset.abort();
      await cancelled;
      expect(faults).toEqual([]);
      disk.set(512, new Uint8Array(512).fill(6), () => undefined);
      expect((await read(disk, 512, 512)).every((byte) => byte === 6)).toBe(true);
    },
  );
});

describe('a write that waits for a server when the guest resets its controller', () => {
  it.each(['local', 'remote'] as const)('is given up, is no fault, and is not carried out later (%s)', async (kind) => {
    const faults: DiskFault[] = [];
    const onError = (fault: DiskFault): number => faults.push(fault);
    const memory = new MemoryDisk(4096);
    const remote = delayedRemote(4096, { read: 0, write: 0 });
    const given = (signal: AbortSignal | undefined): Promise<void> =>
      new Promise((_, reject) => {
        signal?.addEventListener('abort', () => reject(new Qcow2Error('ABORTED', 'reset')));
      });
    memory.write = () => {
      throw new NotResident('the rest of the cluster', given);
    };
    const { write } = remote;
    remote.write = (_, __, options) => given(options?.signal);
    const disk = kind === 'local' ? localDisk(memory, { onError }) : remoteDisk(remote, { onError });
    disk.set(512, new Uint8Array(512).fill(6), () => {
      throw new Error('answered');
    });
    await later(1);
    expect(disk.activity.inFlight).toBe(1);
    memory.write = (offset, source) => MemoryDisk.prototype.write.call(memory, offset, source);
    remote.write = write;
    disk.reset();
    await disk.whenIdle();
    expect(faults).toEqual([]);
    const written = new Promise<void>((resolve) => disk.set(1024, new Uint8Array(512).fill(7), resolve));
    await written;
    expect((await read(disk, 512, 512)).every((byte) => byte === 0)).toBe(true);
    expect((await read(disk, 1024, 512)).every((byte) => byte === 7)).toBe(true);
  });
});
