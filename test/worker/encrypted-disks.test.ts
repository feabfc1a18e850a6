/**
 * Encrypted disks across the worker's boundary: client and server over a channel, the engine on files in memory. Proven here:
 * - who has the passphrase reads the disk, and nobody else; a new disk needs no second derivation;
 * - images are inspected and stored without it, and what is exported stays encrypted, behind the same passphrases;
 * - no message to the page, error or not, has a passphrase in it.
 */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  checkImage,
  listSnapshots,
  MemoryStorage,
  openChain,
  openSnapshot,
  runToEnd,
  type Qcow2Image,
} from '../../src/index.js';
import { Qcow2Error } from '../../src/errors.js';
import { WindowedCipher } from '../../src/kernels/cipher-wasm.js';
import type { WorkerClient } from '../../src/worker/client.js';
import { OpfsDisk } from '../../src/worker/opfs-disk.js';
import type { ExportContent } from '../../src/worker/protocol.js';
import { storeStream } from '../../src/worker/store-stream.js';
import { patternBytes } from '../storage/conformance.js';
import { readWhole } from '../support/disk-actions.js';
import { AES, LUKS } from '../support/encrypted-image.js';
import { closeConnections, connect, directServer, openRequest } from './connect.js';
import { MemoryFolder } from './memory-files.js';
import { expectSameBytes } from './same-bytes.js';

const MIB = 1 << 20;
const PASSPHRASE = 'open-sesame-1';
const OTHER = 'open-sesame-2';

let folder: MemoryFolder;
let client: WorkerClient;
/** All that the worker has said, as text. */
let heard: string[];

beforeEach(() => {
  folder = new MemoryFolder();
  heard = [];
  client = newClient();
});
afterEach(() => {
  closeConnections();
  expectNothingSecret();
});

function expectNothingSecret(): void {
  expect(heard.length).toBeGreaterThan(0);
  for (const text of heard) expect(text).not.toContain('sesame');
}

function newClient(): WorkerClient {
  const { client: connected, port } = connect(folder.openDirectory);
  port.addEventListener('message', ({ data }) => heard.push(inWords(data)));
  return connected;
}

/** JSON, with bytes as text, and numbers that JSON does not have. */
function inWords(message: unknown): string {
  return JSON.stringify(message, (_, value: unknown) => {
    if (value instanceof Uint8Array) return Buffer.from(value).toString('latin1');
    return typeof value === 'bigint' ? String(value) : value;
  });
}

type OpenOptions = Parameters<typeof openRequest>[0];

async function openDisk(options: OpenOptions): Promise<OpfsDisk> {
  client = newClient();
  return new OpfsDisk(client, await client.call(openRequest(options)));
}

/** `exportImage` and `exportFile` without the page's lock, for which there is no browser here. */
async function exported(content: ExportContent): Promise<Blob> {
  return (await client.call({ kind: 'export', content })).blob;
}

const created = (encryption: typeof LUKS | typeof AES) =>
  openDisk({ create: { size: 4 * MIB, clusterSize: 4096, encryption }, passphrase: PASSPHRASE });

/** What an export wrote: clean, and opened with `passphrase`. */
async function opened(blob: Blob, passphrase = PASSPHRASE): Promise<Qcow2Image> {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  expect(Buffer.from(bytes).includes(Buffer.from(patternBytes(64)))).toBe(false);
  const storage = new MemoryStorage(bytes);
  expect(runToEnd(checkImage(storage)).findings).toEqual([]);
  await expect(openChain(storage, { readOnly: true })).rejects.toMatchObject({ code: 'KEY_NEEDED' });
  return openChain(storage, { passphrase, readOnly: true });
}

describe.each([LUKS, AES])('a disk encrypted with $format', (encryption) => {
  const { format } = encryption;

  it('is created, says so, and is read again with its passphrase only', async () => {
    const disk = await created(encryption);
    expect(disk.info).toMatchObject({ encryption: format, size: 4 * MIB });
    await disk.write(12_345, patternBytes(100_000));
    await disk.close();
    expect(Buffer.from(folder.content('disk.qcow2')).includes(Buffer.from(patternBytes(64)))).toBe(false);
    await expect(openDisk({})).rejects.toMatchObject({ code: 'KEY_NEEDED' });
    if (format === 'luks') {
      await expect(openDisk({ passphrase: OTHER })).rejects.toMatchObject({
        code: 'WRONG_PASSPHRASE',
        message: 'the passphrase does not open key slot 0, the only one tried',
      });
    }
    expect(folder.claims.size).toBe(0);
    const again = await openDisk({ passphrase: PASSPHRASE });
    expect(again.info.encryption).toBe(format);
    expectSameBytes(await again.read(12_345, 100_000), patternBytes(100_000));
  });

  it('is not made without a passphrase, and leaves nothing behind', async () => {
    await expect(openDisk({ create: { size: MIB, encryption } })).rejects.toMatchObject({ code: 'KEY_NEEDED' });
    await expect(openDisk({ create: { size: -1, encryption }, passphrase: PASSPHRASE })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
    });
    expect([folder.files.size, folder.claims.size]).toEqual([0, 0]);
  });

  it('is inspected and stored without a passphrase', async () => {
    const disk = await created(encryption);
    await disk.write(0, patternBytes(5000));
    await disk.close();
    client = newClient();
    const blob = new Blob([folder.files.get('disk.qcow2')!]);
    const info = { encryption: format, size: 4 * MIB };
    const request = { kind: 'inspect', directory: 'disks', blob, backing: [] } as const;
    expect(await client.call(request)).toMatchObject(info);
    const target = { directory: 'disks', name: 'stored.qcow2' };
    const source = { stream: blob.stream(), total: blob.size };
    expect(await storeStream(client, target, source, { image: { backing: [] } })).toMatchObject(info);
    const stored = await openDisk({ name: 'stored.qcow2', passphrase: PASSPHRASE });
    expectSameBytes(await stored.read(0, 5000), patternBytes(5000));
  });

  it('is exported encrypted: with its snapshots, without them, one of them, and as the file it is', async () => {
    const disk = await created(encryption);
    await disk.write(0, patternBytes(30_000));
    await disk.snapshots.writeVmState(0, patternBytes(10_000), {});
    await disk.snapshots.create({ name: 'one', vmStateBytes: 10_000 });
    await disk.write(10_000, new Uint8Array(30_000).fill(7));
    const now = new Uint8Array(4 * MIB);
    now.set(patternBytes(30_000));
    now.fill(7, 10_000, 40_000);
    for (const blob of [await exported({ of: 'disk', snapshots: true }), await exported({ of: 'file' })]) {
      const whole = await opened(blob);
      expectSameBytes(readWhole(whole), now);
      const view = openSnapshot(whole, 'one');
      const state = new Uint8Array(10_000);
      view.readVmState(0, state);
      expectSameBytes(state, patternBytes(10_000));
      expectSameBytes(readWhole(view).subarray(0, 30_000), patternBytes(30_000));
      whole.close();
    }
    const alone = await opened(await exported({ of: 'disk', snapshots: false }));
    expect(listSnapshots(alone)).toEqual([]);
    expectSameBytes(readWhole(alone), now);
    const one = await opened(await exported({ of: 'snapshot', key: 'one' }));
    expectSameBytes(readWhole(one).subarray(0, 30_000), patternBytes(30_000));
    // The key belongs to the disk, which goes on after all that.
    expectSameBytes(await disk.read(0, 10_000), patternBytes(30_000).slice(0, 10_000));
    await disk.close();
  });
});

describe('a disk in cipher mode ctr', () => {
  it('is exported with an encryption of its own only, or as the file it is', async () => {
    const create = { size: MIB, clusterSize: 4096, encryption: { ...LUKS, mode: 'ctr' } } as const;
    const disk = await openDisk({ create, passphrase: PASSPHRASE });
    await disk.write(0, patternBytes(30_000));
    await disk.snapshots.create({ name: 'one' });
    for (const content of [
      { of: 'disk', snapshots: true },
      { of: 'snapshot', key: 'one' },
    ] as const) {
      await expect(exported(content)).rejects.toMatchObject({ code: 'KEY_NEEDED' });
      const encryption = { ...LUKS, passphrase: OTHER };
      const copy = await opened(await exported({ ...content, encryption }), OTHER);
      expectSameBytes(readWhole(copy).subarray(0, 30_000), patternBytes(30_000));
      copy.close();
    }
    (await opened(await exported({ of: 'file' }))).close();
    await disk.close();
    expect([...folder.files.keys()].filter((name) => name !== 'disk.qcow2')).toHaveLength(1);
  });
});

describe('what the compiler would refuse', () => {
  const wrong = (value: unknown): never => value as never;

  it.each([
    ['a format that there is none of', { format: 'LUKS' }, PASSPHRASE, 'encryption.format is "LUKS"; it must be'],
    ['no settings', null, PASSPHRASE, 'encryption.format is undefined; it must be'],
    ['a passphrase that is a number', LUKS, 4711, 'passphrase is a Number; it must be text or a Uint8Array'],
    ['a passphrase that is null', LUKS, null, 'passphrase is null; it must be text or a Uint8Array'],
  ])('makes no disk, and leaves nothing behind: %s', async (_, encryption, passphrase, message) => {
    const create = { size: MIB, encryption: wrong(encryption) };
    await expect(openDisk({ create, passphrase: wrong(passphrase) })).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringContaining(message) as string,
    });
    expect([folder.files.size, folder.claims.size]).toEqual([0, 0]);
  });
});

describe('the passphrases of a disk', () => {
  it('are changed, added and erased; the disk goes on, and so do exports', async () => {
    const disk = await created(LUKS);
    await disk.write(0, patternBytes(4096));
    expect(await disk.addPassphrase({ passphrase: PASSPHRASE, newPassphrase: OTHER, iterTime: 0 })).toBe(1);
    expect(await disk.changePassphrase({ passphrase: PASSPHRASE, newPassphrase: 'sesame 3', iterTime: 0 })).toBe(2);
    await disk.erasePassphrase(OTHER);
    const wrong = { passphrase: PASSPHRASE, newPassphrase: OTHER, iterTime: 0 };
    await expect(disk.changePassphrase(wrong)).rejects.toMatchObject({ code: 'WRONG_PASSPHRASE' });
    await expect(disk.erasePassphrase(OTHER)).rejects.toMatchObject({ code: 'WRONG_PASSPHRASE' });
    await expect(disk.erasePassphrase('sesame 3')).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    const copy = await opened(await exported({ of: 'disk', snapshots: true }), 'sesame 3');
    expectSameBytes(readWhole(copy).subarray(0, 4096), patternBytes(4096));
    await disk.close();
    for (const passphrase of [PASSPHRASE, OTHER]) {
      await expect(openDisk({ passphrase })).rejects.toMatchObject({ code: 'WRONG_PASSPHRASE' });
    }
    const again = await openDisk({ passphrase: 'sesame 3' });
    expectSameBytes(await again.read(0, 4096), patternBytes(4096));
  });

  it('keep their order, and hold nothing back that comes after them', async () => {
    const disk = await created(LUKS);
    const order: string[] = [];
    const note = (what: string) => () => void order.push(what);
    await Promise.all([
      disk.write(0, new Uint8Array(512).fill(1)).then(note('write')),
      disk.changePassphrase({ passphrase: PASSPHRASE, newPassphrase: OTHER, iterTime: 0 }).then(note('change')),
      disk.read(0, 512).then(note('read')),
      disk.changePassphrase({ passphrase: OTHER, newPassphrase: PASSPHRASE, iterTime: 0 }).then(note('back')),
    ]);
    expect(order).toEqual(['write', 'read', 'change', 'back']);
    await disk.close();
    await (await openDisk({ passphrase: PASSPHRASE })).close();
  });

  it('are not those of a disk that is plain, or has legacy AES', async () => {
    const request = { passphrase: PASSPHRASE, newPassphrase: OTHER, iterTime: 0 };
    const plain = await openDisk({ name: 'plain', create: { size: MIB }, passphrase: PASSPHRASE });
    expect(plain.info.encryption).toBeNull();
    await expect(plain.changePassphrase(request)).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    await plain.close();
    const aes = await created(AES);
    await expect(aes.changePassphrase(request)).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
  });
});

describe('a plain disk in the place of an encrypted one', () => {
  const plain = async () => {
    await (await openDisk({ create: { size: MIB } })).close();
    return folder.content('disk.qcow2').slice();
  };

  it.each([LUKS, AES])(
    'is refused where one with $format would have been created, and stays as it was',
    async (own) => {
      const before = await plain();
      const name = own.format.toUpperCase();
      await expect(openDisk({ create: { size: MIB, encryption: own }, passphrase: PASSPHRASE })).rejects.toMatchObject({
        code: 'BAD_ARGUMENT',
        message: `the image is not encrypted, and it must be encrypted with ${name}`,
      });
      expectSameBytes(folder.content('disk.qcow2'), before);
      expect(folder.claims.size).toBe(0);
    },
  );

  it('is refused by who requires an encryption, and opened by a passphrase alone, as in QEMU', async () => {
    await plain();
    for (const requireEncryption of [true, 'luks', 'aes'] as const) {
      const refused = openDisk({ passphrase: PASSPHRASE, requireEncryption });
      await expect(refused).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    }
    expect((await openDisk({ passphrase: PASSPHRASE })).info.encryption).toBeNull();
  });

  it('or one in another format, is refused too; one in its format opens', async () => {
    await (await created(LUKS)).close();
    const other = { create: { size: MIB, encryption: AES }, passphrase: PASSPHRASE };
    await expect(openDisk(other)).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    const same = { ...other, create: { size: MIB, encryption: LUKS }, requireEncryption: true };
    expect((await openDisk(same)).info.encryption).toBe('luks');
  });
});

describe('the work of deriving keys', () => {
  it('is bounded where a disk is opened, and where its passphrases are changed', async () => {
    const disk = await created(LUKS);
    const request = { passphrase: PASSPHRASE, newPassphrase: OTHER, iterTime: 0 };
    const little = { maxDerivationWork: 2999 }; // a slot of the fewest iterations takes 3000
    await expect(disk.addPassphrase({ ...request, ...little })).rejects.toMatchObject({ code: 'LIMIT' });
    await expect(disk.changePassphrase({ ...request, ...little })).rejects.toMatchObject({ code: 'LIMIT' });
    expect(await disk.addPassphrase({ ...request, maxDerivationWork: 6000 })).toBe(1);
    await expect(disk.erasePassphrase(OTHER, little)).rejects.toMatchObject({ code: 'LIMIT' });
    await disk.erasePassphrase(OTHER, { maxDerivationWork: 6000 });
    await disk.close();
    await expect(openDisk({ passphrase: PASSPHRASE, ...little })).rejects.toMatchObject({ code: 'LIMIT' });
    const create = { size: MIB, encryption: LUKS };
    const another = openDisk({ name: 'another', create, passphrase: PASSPHRASE, ...little });
    await expect(another).rejects.toMatchObject({ code: 'LIMIT' });
    await openDisk({ passphrase: PASSPHRASE, maxDerivationWork: 3000 });
  });

  it('ends with the signal, and leaves nothing behind', async () => {
    const disk = await created(LUKS);
    const signal = AbortSignal.abort();
    const request = { passphrase: PASSPHRASE, newPassphrase: OTHER, iterTime: 0 };
    await expect(disk.addPassphrase(request, { signal })).rejects.toMatchObject({ code: 'ABORTED' });
    await expect(disk.changePassphrase(request, { signal })).rejects.toMatchObject({ code: 'ABORTED' });
    await expect(disk.erasePassphrase(PASSPHRASE, { signal })).rejects.toMatchObject({ code: 'ABORTED' });
    const copy = { of: 'disk', snapshots: true, encryption: { ...LUKS, passphrase: OTHER } } as const;
    await expect(client.call({ kind: 'export', content: copy }, { signal })).rejects.toMatchObject({ code: 'ABORTED' });
    await disk.close();
    const { send, nextAnswer } = directServer(folder.openDirectory);
    expect(await nextAnswer()).toEqual({ ready: true });
    // One that is there, one that is to be made, and one that waits for both.
    for (const [id, name] of ['disk.qcow2', 'new.qcow2', 'another.qcow2'].entries()) {
      const create = { size: MIB, encryption: LUKS };
      send({ id, request: openRequest({ name, create, passphrase: PASSPHRASE }) });
      send({ cancel: id });
    }
    for (const id of [0, 1, 2]) expect(await nextAnswer()).toMatchObject({ id, error: { code: 'ABORTED' } });
    expect([[...folder.files.keys()], folder.claims.size]).toEqual([['disk.qcow2'], 0]);
  });
});

describe('a new disk that can not be written', () => {
  const request = { create: { size: MIB, encryption: LUKS }, passphrase: PASSPHRASE };

  it('has its key wiped, whatever failed', async () => {
    const wipe = vi.spyOn(WindowedCipher.prototype, 'wipe');
    for (const method of ['createTemporary', 'replace', 'open'] as const) {
      wipe.mockClear();
      vi.spyOn(folder, method).mockRejectedValueOnce(new Qcow2Error('IO', `no ${method}`));
      await expect(openDisk(request)).rejects.toMatchObject({ code: 'IO', message: `no ${method}` });
      // That of the key slot, and that of the image.
      expect(wipe.mock.contexts.length, method).toBe(2);
      expect(new Set(wipe.mock.contexts).size, method).toBe(2);
      expect([folder.files.size, folder.claims.size]).toEqual([0, 0]);
    }
    vi.restoreAllMocks();
  });

  it('says what went wrong, also where the half of it that is there can not be removed', async () => {
    vi.spyOn(folder, 'replace').mockRejectedValueOnce(new Qcow2Error('NO_SPACE', 'the disk is full'));
    vi.spyOn(folder, 'remove').mockRejectedValueOnce(new Qcow2Error('IO', 'it is in use'));
    await expect(openDisk(request)).rejects.toMatchObject({ code: 'NO_SPACE', message: 'the disk is full' });
    vi.restoreAllMocks();
  });
});

describe('a disk over a backing file', () => {
  /** A base that holds a pattern, encrypted with the passphrase or plain. */
  async function storeBase(encryption: typeof LUKS | null): Promise<void> {
    const encrypted = encryption === null ? {} : { encryption };
    const options = { name: 'base.qcow2', create: { size: MIB, ...encrypted }, passphrase: PASSPHRASE };
    const base = await openDisk(options);
    await base.write(0, patternBytes(8192));
    await base.close();
  }

  const backing = { name: 'base.qcow2', format: 'qcow2' } as const;

  it('that is encrypted opens with its own passphrase, or with the same', async () => {
    await storeBase(LUKS);
    const create = { backing, encryption: LUKS };
    const own = {
      create,
      backing: [backing.name],
      passphrase: OTHER,
      backingPassphrases: { [backing.name]: PASSPHRASE },
    };
    const disk = await openDisk(own);
    expectSameBytes(await disk.read(0, 8192), patternBytes(8192));
    await disk.close();
    await expect(openDisk({ ...own, backingPassphrases: {} })).rejects.toMatchObject({
      code: 'WRONG_PASSPHRASE',
      message: expect.stringContaining('in the backing file "base.qcow2"') as string,
    });
    const same = await openDisk({ ...own, name: 'same', passphrase: PASSPHRASE, backingPassphrases: {} });
    await same.close();
  });

  it('that is encrypted is exported encrypted, although the disk itself is not', async () => {
    await storeBase(LUKS);
    const disk = await openDisk({ create: { backing }, backing: [backing.name], passphrase: PASSPHRASE });
    expect(disk.info.encryption).toBeNull();
    await disk.snapshots.create({ name: 'one' });
    for (const snapshots of [true, false]) {
      const copy = await opened(await exported({ of: 'disk', snapshots }));
      expectSameBytes(readWhole(copy).subarray(0, 8192), patternBytes(8192));
      copy.close();
    }
    await disk.close();
  });

  it('that is plain is exported encrypted, where the disk is', async () => {
    await storeBase(null);
    const disk = await openDisk({ create: { backing, encryption: AES }, backing: [backing.name], passphrase: OTHER });
    const copy = await opened(await exported({ of: 'disk', snapshots: true }), OTHER);
    expectSameBytes(readWhole(copy).subarray(0, 8192), patternBytes(8192));
    await disk.close();
  });
});
