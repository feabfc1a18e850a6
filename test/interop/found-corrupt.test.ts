/**
 * One damaged image, given to QEMU and to us: both mark it corrupt, or neither does.
 *
 * Where we differ it is on purpose and has a test of its own: QEMU frees a misaligned cluster with a message and goes on; it
 * reads zeroes where the file has been cut.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, openSync, closeSync, readFileSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { isQcow2Error, type CorruptionEvent } from '../../src/index.js';
import { openOurs } from './our-image.js';
import { inTemporaryDirectory, qemuCheck, qemuCreate, qemuIo } from './qemu.js';

const CLUSTER = 4096;
const SIZE = 0x80_0000;
const COPIED = 1n << 63n;
const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;
const INCOMPATIBLE_LOW_BYTE = 79;
const CORRUPT = 2;

/** A file whose big-endian numbers can be read and changed in place. */
class DamagedFile {
  readonly bytes: Buffer;

  constructor(readonly path: string) {
    this.bytes = readFileSync(path);
  }

  get l1(): number {
    return this.#offset(40);
  }
  get refcountTable(): number {
    return this.#offset(48);
  }
  get l2(): number {
    return this.#offset(this.l1);
  }
  get refcountBlock(): number {
    return this.#offset(this.refcountTable);
  }
  get data(): number {
    return this.#offset(this.l2);
  }

  set(at: number, value: bigint): void {
    this.bytes.writeBigUInt64BE(value, at);
    this.#save(at, 8);
  }

  setRefcount(host: number, value: number): void {
    const at = this.refcountBlock + (2 * host) / CLUSTER;
    this.bytes.writeUInt16BE(value, at);
    this.#save(at, 2);
  }

  #offset(at: number): number {
    return Number(this.bytes.readBigUInt64BE(at) & OFFSET_MASK);
  }

  #save(at: number, length: number): void {
    const file = openSync(this.path, 'r+');
    writeSync(file, this.bytes, at, length, at);
    closeSync(file);
  }
}

interface Case {
  readonly title: string;
  readonly damage: (file: DamagedFile) => void;
  readonly by: 'read' | 'write' | 'write new';
  readonly compat?: '0.10';
  readonly marked: boolean;
}

const CASES: readonly Case[] = [
  {
    title: 'an L1 entry that is misaligned',
    damage: (f) => f.set(f.l1, COPIED | BigInt(f.l2 + 512)),
    by: 'read',
    marked: true,
  },
  {
    title: 'an L1 entry that is misaligned, met by a write,',
    damage: (f) => f.set(f.l1, COPIED | BigInt(f.l2 + 512)),
    by: 'write',
    marked: true,
  },
  {
    title: 'a data cluster that is misaligned',
    damage: (f) => f.set(f.l2, COPIED | BigInt(f.data + 512)),
    by: 'read',
    marked: true,
  },
  {
    title: 'a data cluster that is misaligned, met by a write,',
    damage: (f) => f.set(f.l2, COPIED | BigInt(f.data + 512)),
    by: 'write',
    marked: true,
  },
  {
    title: 'a data cluster of version 2 that is misaligned',
    damage: (f) => f.set(f.l2, COPIED | BigInt(f.data + 512)),
    by: 'read',
    compat: '0.10',
    marked: false,
  },
  {
    title: 'an allocated zero cluster that is misaligned',
    damage: (f) => f.set(f.l2, COPIED | BigInt(f.data + 513)),
    by: 'read',
    marked: true,
  },
  { title: 'a zero cluster of version 2', damage: (f) => f.set(f.l2, 1n), by: 'read', compat: '0.10', marked: false },
  { title: 'data in the L1 table', damage: (f) => f.set(f.l2, COPIED | BigInt(f.l1)), by: 'write', marked: true },
  { title: 'data in the L2 table', damage: (f) => f.set(f.l2, COPIED | BigInt(f.l2)), by: 'write', marked: true },
  {
    title: 'data in the refcount table',
    damage: (f) => f.set(f.l2, COPIED | BigInt(f.refcountTable)),
    by: 'write',
    marked: true,
  },
  {
    title: 'data in a refcount block',
    damage: (f) => f.set(f.l2, COPIED | BigInt(f.refcountBlock)),
    by: 'write',
    marked: true,
  },
  {
    title: 'a refcount block that is misaligned',
    damage: (f) => f.set(f.refcountTable, BigInt(f.refcountBlock + 512)),
    by: 'write new',
    marked: true,
  },
  { title: 'a header that counts as free', damage: (f) => f.setRefcount(0, 0), by: 'write new', marked: true },
  { title: 'an L1 table that counts as free', damage: (f) => f.setRefcount(f.l1, 0), by: 'write new', marked: true },
  { title: 'an L2 table that counts as free', damage: (f) => f.setRefcount(f.l2, 0), by: 'write new', marked: true },
  {
    title: 'a refcount table that counts as free',
    damage: (f) => f.setRefcount(f.refcountTable, 0),
    by: 'write new',
    marked: true,
  },
  {
    title: 'a refcount block that counts as free',
    damage: (f) => f.setRefcount(f.refcountBlock, 0),
    by: 'write new',
    marked: true,
  },
  {
    title: 'a compressed cluster that is rubbish',
    damage: (f) => f.set(f.l2, (1n << 62n) | BigInt(f.data)),
    by: 'read',
    marked: false,
  },
];

const COMMANDS = { read: 'read 0 4k', write: 'write -P 9 0 4k', 'write new': 'write -P 9 1M 4k' } as const;

function isMarked(path: string): boolean {
  return ((readFileSync(path)[INCOMPATIBLE_LOW_BYTE] ?? 0) & CORRUPT) !== 0;
}

/** Whether QEMU failed a second, harmless read: the image has become unusable. */
function askQemu(path: string, command: string): { failed: boolean; unusable: boolean } {
  const { stdout, stderr } = spawnSync('qemu-io', ['-f', 'qcow2', '-c', command, '-c', 'read 3M 4k', path], {
    encoding: 'utf8',
  });
  const lines = `${stdout}${stderr}`;
  return { failed: /(read|write) failed/.test(lines), unusable: /No medium found/.test(lines) };
}

async function askUs(path: string, by: Case['by']) {
  const events: CorruptionEvent[] = [];
  const image = await openOurs(path, { onCorruption: (event) => events.push(event) });
  const attempt = (call: () => void): unknown => {
    try {
      call();
    } catch (error) {
      if (!isQcow2Error(error)) throw error;
      return error.code;
    }
    return null;
  };
  const first = attempt(() => {
    if (by === 'read') image.read(0, new Uint8Array(CLUSTER));
    else image.write(by === 'write' ? 0 : 1 << 20, new Uint8Array(CLUSTER).fill(9));
  });
  const second = attempt(() => image.read(3 << 20, new Uint8Array(CLUSTER)));
  image.close();
  return { first, second, events };
}

function makeDamaged(path: string, { damage, compat }: Pick<Case, 'damage' | 'compat'>): void {
  qemuCreate(path, { size: SIZE, options: { cluster_size: CLUSTER, compat: compat ?? '1.1' } });
  qemuIo(path, ['write -P 5 0 64k', 'write -P 6 3M 64k']);
  damage(new DamagedFile(path));
}

describe('corruption that is met in use', () => {
  for (const example of CASES) {
    it(`${example.title} ${example.marked ? 'is marked' : 'is not marked'} by QEMU and by us`, async () => {
      await inTemporaryDirectory(async (path) => {
        const [theirs, ours] = [path('theirs.qcow2'), path('ours.qcow2')];
        makeDamaged(theirs, example);
        copyFileSync(theirs, ours);
        const qemu = askQemu(theirs, COMMANDS[example.by]);
        const { first, second, events } = await askUs(ours, example.by);
        expect(qemu.failed, 'QEMU failed the request').toBe(true);
        expect(first, 'we failed the request').not.toBeNull();
        expect([isMarked(theirs), isMarked(ours)], 'marked by QEMU, by us').toEqual([example.marked, example.marked]);
        expect(second === 'CORRUPT', 'unusable afterwards').toBe(qemu.unusable);
        expect(events.map(({ fatal }) => fatal)).toEqual(qemu.unusable ? [true] : []);
      });
    });
  }

  it('that we marked is refused by QEMU for writing, and repaired by its check', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      makeDamaged(file, { damage: (f) => f.setRefcount(f.l2, 0) });
      await askUs(file, 'write new');
      expect(isMarked(file)).toBe(true);
      expect(() => qemuIo(file, ['write 0 4k'])).toThrow(/corrupt/i);
      qemuIo(file, ['read -P 5 0 64k', 'read -P 6 3M 64k'], { readOnly: true });
      qemuCheck(file, 'all');
      expect(isMarked(file)).toBe(false);
      qemuIo(file, ['read -P 5 0 64k', 'write -P 7 1M 4k']);
    });
  });

  it('that QEMU marked is refused by us for writing, and read', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      makeDamaged(file, { damage: (f) => f.setRefcount(f.l2, 0) });
      askQemu(file, COMMANDS['write new']);
      await expect(openOurs(file)).rejects.toSatisfy((error: unknown) => isQcow2Error(error, 'CORRUPT'));
      const image = await openOurs(file, { readOnly: true });
      const target = new Uint8Array(1);
      image.read(3 << 20, target);
      image.close();
      expect(target[0]).toBe(6);
    });
  });

  it('of a cluster counted as free that is freed stops neither QEMU nor us', async () => {
    await inTemporaryDirectory(async (path) => {
      const [theirs, ours] = [path('theirs.qcow2'), path('ours.qcow2')];
      makeDamaged(theirs, { damage: (f) => f.setRefcount(f.data, 0) });
      copyFileSync(theirs, ours);
      spawnSync('qemu-io', ['-f', 'qcow2', '-d', 'unmap', '-c', 'discard 0 4k', theirs]);
      const image = await openOurs(ours);
      image.discard(0, CLUSTER);
      image.close();
      for (const file of [theirs, ours]) {
        expect(isMarked(file)).toBe(false);
        qemuIo(file, ['read -P 0 0 4k', 'read -P 5 4k 60k']);
        expect(qemuCheck(file)).toMatchObject({ corruptions: 0, leaks: 0 });
      }
    });
  });

  it('of a misaligned cluster that a discard meets is fatal for us; QEMU tells of it and goes on', async () => {
    await inTemporaryDirectory(async (path) => {
      const [theirs, ours] = [path('theirs.qcow2'), path('ours.qcow2')];
      makeDamaged(theirs, { damage: (f) => f.set(f.l2, BigInt(f.data + 512)) });
      copyFileSync(theirs, ours);
      const done = spawnSync('qemu-io', ['-f', 'qcow2', '-d', 'unmap', '-c', 'discard 0 4k', theirs], {
        encoding: 'utf8',
      });
      expect(done.stderr + done.stdout).toMatch(/Image is corrupt: Cannot free unaligned cluster/);
      expect(isMarked(theirs)).toBe(false);
      const image = await openOurs(ours);
      expect(() => image.discard(0, CLUSTER)).toThrow(expect.objectContaining({ code: 'CORRUPT' }));
      image.close();
      expect(isMarked(ours)).toBe(true);
    });
  });

  it('where the file has been cut reads as zeroes in QEMU, and fails with us; nobody marks it', async () => {
    await inTemporaryDirectory(async (path) => {
      const file = path('image.qcow2');
      makeDamaged(file, { damage: (f) => f.set(f.l2, COPIED | 0x1000_0000n) });
      qemuIo(file, ['read -P 0 0 4k'], { readOnly: true });
      const { first, second, events } = await askUs(file, 'read');
      expect([first, second, events]).toEqual(['CORRUPT', null, []]);
      expect(isMarked(file)).toBe(false);
    });
  });
});
