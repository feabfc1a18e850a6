/** The disk between a machine and OPFS: what the machine asks for arrives whole, with what ends it. */
import { describe, expect, it } from 'vitest';
import { Qcow2Error } from '../../src/errors.js';
import type { RemoteDisk } from '../../src/worker/remote-disk.js';
import { GuestDisk } from '../../demo/src/guest-disk.js';
import { remoteDisk, type DiskFault } from '../../src/v86/v86-disk.js';

type Call = readonly [kind: string, offset: number, length: number, signal: AbortSignal | undefined];

/** A disk that notes what is asked of it, and answers with zeroes. */
function notingDisk(calls: Call[]): RemoteDisk {
  const unused = (): never => {
    throw new Error('not asked for here');
  };
  return {
    info: {
      size: 1 << 20,
      readOnly: false,
      path: '/disk.qcow2',
      version: 3,
      clusterSize: 65536,
      refcountBits: 16,
      lazyRefcounts: false,
      encryption: null,
      cipher: null,
      backingFile: null,
    },
    snapshots: {
      list: unused,
      create: unused,
      goto: unused,
      delete: unused,
      readVmState: unused,
      writeVmState: unused,
      discardVmState: unused,
    },
    read: async (offset, length, options) => {
      calls.push(['read', offset, length, options?.signal]);
      return new Uint8Array(length);
    },
    write: async (offset, source, options) => void calls.push(['write', offset, source.length, options?.signal]),
    writeZeroes: async (offset, length, options) => void calls.push(['writeZeroes', offset, length, options?.signal]),
    discard: async (offset, length, options) => void calls.push(['discard', offset, length, options?.signal]),
    flush: async () => undefined,
    stats: unused,
    close: async () => undefined,
  };
}

describe('the disk of a machine', () => {
  it('passes on what ends a request, of each kind that may wait for a server', async () => {
    const calls: Call[] = [];
    const disk = new GuestDisk(notingDisk(calls), () => undefined);
    const { signal } = new AbortController();
    await disk.read(512, 1024, { signal });
    await disk.write(1024, new Uint8Array(512), { signal });
    await disk.writeZeroes(2048, 512, { signal });
    await disk.discard(4096, 512, { signal });
    expect(calls).toEqual([
      ['read', 512, 1024, signal],
      ['write', 1024, 512, signal],
      ['writeZeroes', 2048, 512, signal],
      ['discard', 4096, 512, signal],
    ]);
  });

  it('gives a write of the guest up when its controller is reset', async () => {
    const calls: Call[] = [];
    const given: AbortSignal[] = [];
    const server: RemoteDisk = {
      ...notingDisk(calls),
      // A server that never answers.
      write: (_offset, _source, options) =>
        new Promise((_resolve, reject) => {
          const signal = options?.signal;
          if (!signal) throw new Error('the write has nothing that ends it');
          given.push(signal);
          signal.addEventListener('abort', () => reject(new Qcow2Error('ABORTED', 'given up')));
        }),
    };
    const faults: DiskFault[] = [];
    const onError = (fault: DiskFault): number => faults.push(fault);
    const disk = remoteDisk(new GuestDisk(server, () => undefined), { onError });
    disk.set(512, new Uint8Array(512), () => undefined);
    await expect.poll(() => given.length).toBe(1);
    disk.reset();
    await disk.whenIdle();
    expect(given[0]!.aborted).toBe(true);
    expect(faults, 'it is no fault').toEqual([]);
  });

  it('holds another disk once it is replaced, and tells what is read and written on either', async () => {
    const before: Call[] = [];
    const after: Call[] = [];
    const told: [kind: string, offset: number, length: number][] = [];
    const disk = new GuestDisk(notingDisk(before), (...transfer) => told.push(transfer));
    await disk.read(0, 512);
    disk.replace(notingDisk(after));
    await disk.write(512, new Uint8Array(1024));
    expect([before.length, after.length]).toEqual([1, 1]);
    expect(told).toEqual([
      ['read', 0, 512],
      ['write', 512, 1024],
    ]);
  });
});
