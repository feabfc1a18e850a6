/** Backing chains in which some files are encrypted: each with its own passphrase, or locked, or refused. */
import { describe, expect, it } from 'vitest';
import {
  blockStatus,
  copiedEncryption,
  createImage,
  MemoryStorage,
  openChain,
  openImage,
  settle,
  type ChainOptions,
  type LockedImage,
  type Qcow2Image,
} from '../../src/index.js';
import { RemoteStorage } from '../storage/remote.js';
import { act, randomRange, readWhole, type DiskAction } from '../support/disk-actions.js';
import { AES, createEncrypted, LUKS, type Encryption } from '../support/encrypted-image.js';
import { expectSameBytes, ModelDisk } from '../support/model-disk.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';

const SIZE = 0x4_0000;
const ACTIONS: readonly DiskAction[] = ['write', 'write', 'write', 'writeZeroes', 'unmap', 'discard', 'read'];

/** From the lowest file on, what each is encrypted with; null for not at all. */
type Chain = readonly (Encryption | null)[];

const CHAINS: readonly (readonly [title: string, Chain])[] = [
  ['LUKS over plain', [null, LUKS]],
  ['plain over LUKS', [LUKS, null]],
  ['LUKS over LUKS', [LUKS, LUKS]],
  ['AES over LUKS over plain over AES', [AES, null, LUKS, AES]],
];

const nameOf = (depth: number): string => `file-${depth}`;
const passphraseOf = (name: string): string => `the passphrase of ${name}`;

/** Files by their names, each over the one below. The last is `file-<n>`. */
class Files {
  readonly all = new Map<string, MemoryStorage>();

  async add(encryption: Encryption | null, clusterSize: number): Promise<void> {
    const name = nameOf(this.all.size);
    const below = this.all.size > 0 ? { backing: { name: nameOf(this.all.size - 1), format: 'qcow2' } as const } : {};
    const create = { size: SIZE, clusterSize, ...below };
    const storage = new MemoryStorage();
    if (encryption === null) createImage(storage, create);
    else await createEncrypted(storage, { encryption, create, passphrase: passphraseOf(name) });
    this.all.set(name, storage);
  }

  get top(): string {
    return nameOf(this.all.size - 1);
  }

  /** Opens the last. `asked` is told which file each passphrase is asked for. */
  open(options: ChainOptions = {}, asked: LockedImage[] = []): Promise<Qcow2Image> {
    return openChain(this.all.get(this.top)!, {
      opener: ({ name }) => this.all.get(name)!,
      passphrase: (image) => {
        asked.push(image);
        return passphraseOf(image.name ?? this.top);
      },
      ...options,
    });
  }
}

describe('a chain of files', () => {
  it.each(CHAINS)('reads and writes as one disk: %s', (title, chain) =>
    withSeed(title, seedOfThisRun(), async (random) => {
      const files = new Files();
      let bytes = new Uint8Array(SIZE);
      for (const encryption of chain) {
        const clusterSize = random.pick([512, 4096, 65536]);
        await files.add(encryption, clusterSize);
        const model = new ModelDisk({ size: SIZE, clusterSize, version: 3, backing: bytes });
        const image = await files.open();
        for (let turn = 0; turn < 40; turn++) {
          act(random.pick(ACTIONS), randomRange(random, SIZE, clusterSize, 30_000), { disk: image, model, random });
        }
        image.close();
        bytes = model.bytes.slice();
      }
      const image = await files.open({ readOnly: true });
      expectSameBytes(readWhole(image), bytes, 'the disk');
      image.close();
    }),
  );

  it('asks for the passphrase of each encrypted file, saying which', async () => {
    const files = new Files();
    for (const encryption of [AES, null, LUKS]) await files.add(encryption, 4096);
    const asked: LockedImage[] = [];
    (await files.open({}, asked)).close();
    expect(asked.toSorted((a, b) => a.depth - b.depth)).toEqual([
      { name: null, depth: 0, format: 'luks' },
      { name: 'file-0', depth: 2, format: 'aes' },
    ]);
  });

  it('says which file a passphrase is wrong for or missing, and has closed the files below', async () => {
    const files = new Files();
    for (const encryption of [LUKS, LUKS]) await files.add(encryption, 4096);
    const closed: string[] = [];
    for (const [name, storage] of files.all) storage.close = () => closed.push(name);
    const passphrase = (own: string | undefined, below: string | undefined) => ({
      passphrase: ({ name }: LockedImage) => (name === null ? own : below),
    });
    const own = passphraseOf('file-1');
    const inBacking = 'in the backing file "file-0": ';
    await expect(files.open(passphrase(own, 'wrong'))).rejects.toMatchObject({
      code: 'WRONG_PASSPHRASE',
      message: expect.stringContaining(inBacking) as string,
    });
    await expect(files.open(passphrase(own, undefined))).rejects.toMatchObject({
      code: 'KEY_NEEDED',
      message: `${inBacking}the image is encrypted (LUKS), and no key was given`,
    });
    expect(closed).toEqual(['file-0', 'file-0']);
    await expect(files.open(passphrase('wrong', passphraseOf('file-0')))).rejects.toMatchObject({
      code: 'WRONG_PASSPHRASE',
    });
    expect(closed).toEqual(['file-0', 'file-0', 'file-0']);
    const refusing = {
      passphrase: () => {
        throw new Error('the visitor went away');
      },
    };
    await expect(files.open(refusing)).rejects.toThrow('the visitor went away');
  });

  it('that is opened locked has all its files locked, and asks for nothing', async () => {
    const files = new Files();
    await files.add(LUKS, 4096);
    const base = await files.open();
    base.write(0, new Uint8Array(4096).fill(1));
    base.close();
    for (const encryption of [null, AES]) {
      await files.add(encryption, 4096);
      const asked: LockedImage[] = [];
      const image = await files.open({ encryption: null }, asked);
      expect(asked).toEqual([]);
      expect(() => image.read(0, new Uint8Array(1))).toThrow(expect.objectContaining({ code: 'KEY_NEEDED' }));
      image.close();
    }
  });

  it('is copied with the encryption of its highest file that has one', async () => {
    const files = new Files();
    const formats: unknown[] = [];
    for (const encryption of [null, AES, null, LUKS, null]) {
      await files.add(encryption, 4096);
      const image = await files.open();
      formats.push(copiedEncryption(image)?.opened.format);
      image.close();
    }
    expect(formats).toEqual([undefined, 'aes', 'aes', 'luks', 'luks']);
  });

  it('reads an encrypted base that is far away, and writes parts of sectors over it', async () => {
    const files = new Files();
    await files.add(LUKS, 4096);
    const base = await files.open();
    const bytes = new Uint8Array(SIZE).map((_, index) => index * 3 + (index >> 8));
    base.write(0, bytes);
    base.close();
    const remote = new RemoteStorage(files.all.get('file-0')!.toBytes(), { chunkBytes: 1000 });
    await files.add(AES, 4096);
    const image = await files.open({ opener: () => remote });
    for (const offset of [100, 5000, 70_001]) {
      const source = new Uint8Array(777).fill(offset);
      await settle(() => image.write(offset, source));
      bytes.set(source, offset);
    }
    const read = new Uint8Array(SIZE);
    await settle(() => image.read(0, read));
    expectSameBytes(read, bytes, 'the disk');
    expect(remote.faults).toBeGreaterThan(10);
    image.close();
  });

  it('has no places in an encrypted file, and those of a plain one', async () => {
    const files = new Files();
    for (const encryption of [null, LUKS]) await files.add(encryption, 4096);
    const base = openImage(files.all.get('file-0')!);
    base.write(0, new Uint8Array(8192).fill(1));
    base.close();
    const image = await files.open();
    image.write(0, new Uint8Array(4096).fill(2));
    const runs = [...blockStatus(image)].map(({ depth, data, host }) => ({ depth, data, placed: host !== null }));
    expect(runs).toEqual([
      { depth: 0, data: true, placed: false },
      { depth: 1, data: true, placed: true },
      { depth: 1, data: false, placed: false },
    ]);
    image.close();
  });
});
