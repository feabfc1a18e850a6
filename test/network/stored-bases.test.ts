/** What the origin keeps of base images, seen and deleted from outside: every version, by whichever disk, and never one that is in use. */
import { describe, expect, it } from 'vitest';
import { Qcow2Error } from '../../src/errors.js';
import { LAYOUT_VERSION } from '../../src/network/cache-header.js';
import { baseFileName } from '../../src/network/kept-bases.js';
import { listStoredBases, removeStoredBase } from '../../src/network/stored-bases.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import type { Storage } from '../../src/storage/storage.js';
import { patternBytes } from '../storage/conformance.js';
import { expectSameBytes } from '../support/model-disk.js';
import { MemoryBases, hostOn } from './memory-bases.js';
import { CHUNK, SIZE, URL_OF_BASE, closeBasesAfterEach, errorOf, open, readAt, served } from './opened-base.js';

closeBasesAfterEach();

describe('the bases that are kept', () => {
  it('are told with their versions, how much of them is here, and when they were opened', async () => {
    const [server, bases] = [served(), new MemoryBases()];
    const before = Date.now();
    const old = await open(hostOn(server, bases));
    await readAt(old, 5 * CHUNK, 1);
    await old.whenKept();
    old.close();
    server.put(URL_OF_BASE, patternBytes(SIZE + 1), '"v2"');
    const fresh = await open(hostOn(server, bases));
    const listed = await listStoredBases(bases);
    const byIdentity = new Map(listed.map((base) => [base.identity, base]));
    expect(byIdentity.get('etag:"v1"')).toMatchObject({ url: URL_OF_BASE, size: SIZE, presentBytes: 2 * CHUNK });
    expect(byIdentity.get('etag:"v1"')!.inUse).toBe(false);
    expect(byIdentity.get('etag:"v2"')).toMatchObject({ size: SIZE + 1, presentBytes: CHUNK, inUse: true });
    for (const base of listed) {
      expect(base.lastUsed).toBeGreaterThanOrEqual(before);
      expect(base.bytes).toBeGreaterThan(base.presentBytes);
    }
    fresh.close();
  });

  it('leave alone the file of another layout, which a page of another release may have open', async () => {
    const [server, bases] = [served(), new MemoryBases()];
    const name = baseFileName(URL_OF_BASE, 'etag:"v1"').replace(`v${LAYOUT_VERSION}`, `v${LAYOUT_VERSION - 1}`);
    const old = await bases.open(name, { create: true });
    old!.storage.write(0, patternBytes(5000));
    const base = await open(hostOn(server, bases));
    await readAt(base, 5 * CHUNK, 1);
    await base.whenKept();
    expect(await listStoredBases(bases)).toMatchObject([{ presentBytes: 2 * CHUNK }]);
    expectSameBytes(bases.files.get(name)!.toBytes(), patternBytes(5000), 'the file of the other layout');
    old!.release();
  });

  it('are deleted one by one, but not while a disk has them open', async () => {
    const [server, bases] = [served(), new MemoryBases()];
    const base = await open(hostOn(server, bases));
    const which = { url: URL_OF_BASE, identity: 'etag:"v1"' };
    expect((await errorOf(removeStoredBase(bases, which))).code).toBe('IN_USE');
    base.close();
    await removeStoredBase(bases, { ...which, identity: 'etag:"v0"' });
    expect(await listStoredBases(bases)).toHaveLength(1);
    await removeStoredBase(bases, which);
    expect(bases.files.size).toBe(0);
  });

  it('are looked at again where one changes while it is read, and what can be read by nobody is deleted', async () => {
    const [server, bases] = [served(), new MemoryBases()];
    const base = await open(hostOn(server, bases));
    bases.files.set('left over', new MemoryStorage(patternBytes(5000)));
    const peek = bases.peek.bind(bases);
    let looks = 0;
    bases.peek = (name) => {
      if (name !== 'left over' && ++looks < 3) return Promise.resolve(new UnreadableStorage());
      return peek(name);
    };
    expect(await listStoredBases(bases)).toMatchObject([{ identity: 'etag:"v1"' }]);
    expect([...bases.files.keys()]).toHaveLength(1);
    looks = -10;
    expect((await errorOf(listStoredBases(bases))).code).toBe('IO');
    base.close();
  });

  it('are told with a file that has all that is here, also where that comes while it is looked at', async () => {
    const [server, bases] = [served(), new MemoryBases()];
    const base = await open(hostOn(server, bases));
    const peek = bases.peek.bind(bases);
    const before = bases.files.get(baseFileName(URL_OF_BASE, 'etag:"v1"'))!.size;
    await base.makeAvailableOffline();
    let looks = 0;
    bases.peek = async (name) => (++looks === 1 ? new OutgrownStorage((await peek(name))!, before) : peek(name));
    const [seen] = await listStoredBases(bases);
    expect(seen!.presentBytes).toBe(SIZE);
    expect(seen!.bytes).toBeGreaterThan(SIZE);
    base.close();
  });

  it('open also where it can not be written down when', async () => {
    const [server, bases] = [served(), new MemoryBases()];
    const first = await open(hostOn(server, bases));
    await first.makeAvailableOffline();
    first.close();
    bases.quota = 0;
    server.fault = () => ({ kind: 'unreachable' });
    const second = await open(hostOn(server, bases), { pin: 'etag:"v1"' });
    expect((await readAt(second, 5 * CHUNK, 1))[0]).toBe(patternBytes(SIZE)[5 * CHUNK]);
  });

  it('are none where nothing is kept', async () => {
    expect(await listStoredBases(null)).toEqual([]);
    await removeStoredBase(null, { url: URL_OF_BASE, identity: 'etag:"v1"' });
  });
});

class UnreadableStorage extends MemoryStorage {
  override read(): void {
    throw new Qcow2Error('IO', 'it was changed while it was read');
  }
}

/** A file as it was opened at `size`, whose bytes are those of now. */
class OutgrownStorage extends MemoryStorage {
  readonly #now: Storage;
  readonly #sizeThen: number;

  constructor(now: Storage, sizeThen: number) {
    super();
    this.#now = now;
    this.#sizeThen = sizeThen;
  }

  override get size(): number {
    return this.#sizeThen;
  }

  override read(offset: number, target: Uint8Array): void {
    this.#now.read(offset, target);
  }
}
