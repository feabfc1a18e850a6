/**
 * Fuzz of encryption: small LUKS images whose header, key slots, key material or encryption extension have been damaged, or whose
 * file was cut. It proves that looking at one, checking and repairing it, opening it with a passphrase, using it and changing its
 * passphrases ends
 * - in success or with a `Qcow2Error`;
 * - soon: not more derivation is asked for than is allowed, whatever the counts say;
 * - with every write of a key slot where the extension says that the encryption header lies, and none on other metadata;
 * - with key slots that a repair has not touched.
 */
import { expect } from 'vitest';
import {
  addPassphrase,
  changePassphrase,
  checkImage,
  erasePassphrase,
  imageInfo,
  isQcow2Error,
  MemoryStorage,
  openChain,
  openImage,
  runToEnd,
  type KeyDerivation,
  type Qcow2Image,
} from '../../src/index.js';
import { webKeyDerivation } from '../../src/crypto/key-derivation.js';
import { cryptoAreaOf } from '../../src/format/header.js';
import { LUKS_HEADER_BYTES } from '../../src/format/luks-header.js';
import { RecordingStorage, type StorageEvent } from '../crash/recording-storage.js';
import { freshEncrypted, LUKS, PASSPHRASE } from '../support/encrypted-image.js';
import { expectSameBytes } from '../support/model-disk.js';
import { Qcow2Bytes } from '../support/qcow2-bytes.js';
import type { SeededRandom } from '../support/seeded-random.js';

const SLOWEST_MILLISECONDS = 10_000;
/** HMACs: what `crypto/key-limits.ts` allows one search, and the few of a new slot. */
const MOST_WORK = 2 ** 28 + 1e6;
const CLUSTER = 4096;
const SECOND = 'the second one';
const cheap = { iterTime: 0 } as const;

const EVIL = [0, 1, 7, 8, 0xdead, 0xac71f3, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 4000, 4001, 64, 65];
const NAMES = [
  'aes',
  'serpent',
  'xts-plain64',
  'cbc-essiv:sha256',
  'ctr-plain',
  'ecb-essiv:',
  'sha1',
  'sha999',
  '-',
  '',
];
const AT = { cipherName: 8, cipherMode: 40, hash: 72, payload: 104, keyBytes: 108, slots: 208 } as const;
const NAME_FIELDS = [AT.cipherName, AT.cipherMode, AT.hash] as const;
const CRYPT_METHOD_AT = 32;
const EXTENSION_TYPE = Buffer.from('0537be77', 'hex');

/** A good image, and where things lie in it. */
export interface FuzzedImage {
  readonly bytes: Uint8Array;
  readonly area: { readonly offset: number; readonly length: number };
  /** Of the data of the extension: offset and length, 64 bits each. */
  readonly extensionAt: number;
  /** Clusters of tables. */
  readonly tables: readonly number[];
}

/** Two slots in use, one of them across two sectors, and some data. */
export async function imageToFuzz(): Promise<FuzzedImage> {
  const encryption = { ...LUKS, cipher: 'aes-128', mode: 'cbc', iv: 'essiv' } as const;
  const { storage, image } = await freshEncrypted(encryption, { size: 0x10_0000, clusterSize: CLUSTER });
  image.write(0, new Uint8Array(60_000).fill(3));
  await addPassphrase(image, { passphrase: PASSPHRASE, newPassphrase: SECOND, slot: 6, ...cheap });
  const area = cryptoAreaOf(image.header)!;
  image.close();
  const file = new Qcow2Bytes(storage.toBytes());
  const extensionAt = file.bytes.indexOf(EXTENSION_TYPE) + 8;
  return { bytes: storage.toBytes(), area, extensionAt, tables: tablesOf(file) };
}

/** The first table of each kind. */
function tablesOf(file: Qcow2Bytes): number[] {
  return [file.l1Offset, file.refcountTableOffset, file.l2TableOf(0), file.u64(file.refcountTableOffset)];
}

interface Damage {
  /** In words. */
  readonly what: string;
  readonly bytes: Uint8Array;
  /** Whether the encryption header is still said to lie where it does. */
  readonly inPlace: boolean;
}

function damaged(original: FuzzedImage, random: SeededRandom): Damage {
  const file = new Qcow2Bytes(original.bytes);
  const done: string[] = [];
  let inPlace = true;
  for (let count = random.between(1, 3); count > 0; count--) {
    const kind = random.below(8);
    if (kind < 5) done.push(damageHeader(file, original.area.offset, random));
    else if (kind === 5) done.push(damageMaterial(file, original, random));
    else {
      done.push(kind === 6 ? damageExtension(file, original, random) : damageFile(file, random));
      inPlace = false;
    }
  }
  return { what: done.join(', '), bytes: new Uint8Array(file.bytes), inPlace };
}

function damageHeader(file: Qcow2Bytes, area: number, random: SeededRandom): string {
  const field = random.pick(['word', 'byte', 'name', 'slot'] as const);
  if (field === 'name') {
    const at = area + random.pick(NAME_FIELDS);
    const name = random.oneIn(3) ? 'x'.repeat(32) : random.pick(NAMES);
    file.bytes.fill(0, at, at + 32);
    file.bytes.write(name, at, 'latin1');
    return `name at ${at - area} = ${JSON.stringify(name)}`;
  }
  if (field === 'byte') {
    const at = area + random.below(LUKS_HEADER_BYTES);
    file.bytes[at]! ^= 1 << random.below(8);
    return `byte ${at - area} flipped`;
  }
  const words = field === 'word' ? random.below(LUKS_HEADER_BYTES / 4) * 4 : slotWord(random);
  const value = random.oneIn(4) ? random.below(3000) : random.pick(EVIL);
  file.setU32(area + words, value);
  return `word at ${words} = ${value}`;
}

/** State, iterations, place of the material or stripes of some slot. */
function slotWord(random: SeededRandom): number {
  return AT.slots + 48 * random.below(8) + random.pick([0, 4, 40, 44]);
}

function damageMaterial(file: Qcow2Bytes, { area }: FuzzedImage, random: SeededRandom): string {
  const at = area.offset + CLUSTER + random.below(area.length - CLUSTER);
  file.bytes[at]! ^= 0xff;
  return `material at ${at - area.offset}`;
}

/** The area elsewhere: anywhere, or on other metadata with a copy of the LUKS header there that says so. */
function damageExtension(file: Qcow2Bytes, original: FuzzedImage, random: SeededRandom): string {
  const { area, extensionAt, tables } = original;
  const value = random.pick([
    0,
    512,
    CLUSTER,
    2 ** 31,
    2 ** 40,
    2 ** 53,
    area.length + 1,
    LUKS_HEADER_BYTES,
    ...tables,
  ]);
  if (random.oneIn(2)) {
    const at = extensionAt + random.pick([0, 8]);
    file.setBits(at, BigInt(value));
    return `extension at ${at - extensionAt} = ${value}`;
  }
  // What the tables become is of no use, but the area reads as one.
  const place = Math.max(0, random.pick(tables) - random.below(4) * CLUSTER);
  file.setBits(extensionAt, BigInt(place));
  if (place > 0 && random.oneIn(2)) {
    file.bytes.copy(file.bytes, place, area.offset, Math.min(area.offset + area.length, file.length));
    return `the area copied to ${place}`;
  }
  return `the area said to be at ${place}`;
}

function damageFile(file: Qcow2Bytes, random: SeededRandom): string {
  if (random.oneIn(2)) {
    const method = random.pick([0, 1, 3, 0xffff_ffff]);
    file.setU32(CRYPT_METHOD_AT, method);
    return `crypt_method = ${method}`;
  }
  const length = random.between(CLUSTER, file.length);
  file.truncate(length);
  return `cut to ${length} bytes`;
}

/** WebCrypto, but for counts that nobody would wait for; it keeps what was asked for. */
function countedDerivation(): { readonly derivation: KeyDerivation; work: number } {
  const counted = {
    work: 0,
    derivation: {
      isNative: () => true,
      pbkdf2: async (request) => {
        counted.work += request.iterations;
        if (request.iterations > 5000) return new Uint8Array(request.length);
        return webKeyDerivation.pbkdf2(request);
      },
    } satisfies KeyDerivation,
  };
  return counted;
}

type Use = (bytes: Uint8Array, derivation: KeyDerivation) => unknown;

/** What is done to each image, each to a copy of its own. */
function uses(original: FuzzedImage, { inPlace }: Damage): Readonly<Record<string, Use>> {
  const changing = (change: (image: Qcow2Image, derivation: KeyDerivation) => Promise<unknown>): Use => {
    return (bytes, derivation) => changeSlots(original, bytes, (image) => change(image, derivation));
  };
  const both = { passphrase: PASSPHRASE, newPassphrase: 'third', ...cheap };
  return {
    info: (bytes) => imageInfo(openImage(new MemoryStorage(bytes), { encryption: null, readOnly: true })),
    check: (bytes) => runToEnd(checkImage(new MemoryStorage(bytes))),
    repair: (bytes) => repair(original, bytes, inPlace),
    add: changing((image, derivation) => addPassphrase(image, both, { derivation })),
    change: changing((image, derivation) => changePassphrase(image, both, { derivation })),
    erase: changing((image, derivation) => erasePassphrase(image, { passphrase: SECOND }, { derivation })),
    'erase a slot': changing((image, derivation) => erasePassphrase(image, { slot: 3, force: true }, { derivation })),
    guest: useAsGuest,
  };
}

function repair({ area }: FuzzedImage, bytes: Uint8Array, inPlace: boolean): void {
  const before = bytes.slice(area.offset, area.offset + area.length);
  const storage = new MemoryStorage(new Uint8Array(bytes));
  try {
    runToEnd(checkImage(storage, { repair: 'all' }));
  } finally {
    const after = storage.toBytes().subarray(area.offset, area.offset + area.length);
    if (inPlace) expectSameBytes(after, before, 'the encryption header after a repair');
  }
}

/** Without a key, so that all that is written are key slots, and the header of the image. */
async function changeSlots(
  original: FuzzedImage,
  bytes: Uint8Array,
  change: (image: Qcow2Image) => Promise<unknown>,
): Promise<void> {
  const storage = new RecordingStorage(bytes);
  const image = openImage(storage, { encryption: null });
  const error = await change(image).then(
    () => null,
    (cause: unknown) => cause,
  );
  expectInPlace(original, new Qcow2Bytes(bytes), storage.events);
  if (error !== null) throw error;
}

function expectInPlace({ extensionAt, tables }: FuzzedImage, file: Qcow2Bytes, events: readonly StorageEvent[]): void {
  const [start, length] = [file.u64(extensionAt), file.u64(extensionAt + 8)];
  // What lies over an L1 table makes other tables of it.
  const now = tablesOf(file);
  const kept = tables.filter((table) => now.includes(table));
  for (const event of events) {
    if (event.kind === 'flush') continue;
    if (event.kind === 'truncate') throw new Error(`the file was cut to ${event.size} bytes`);
    const end = event.offset + event.bytes.length;
    const inArea = event.offset >= start && end <= start + length;
    const what = `a write from ${event.offset} to ${end}`;
    if (!inArea && end > CLUSTER) throw new Error(`${what}, with the area at ${start}`);
    const hit = kept.find((table) => event.offset < table + CLUSTER && table < end);
    if (hit !== undefined) throw new Error(`${what} over the table at ${hit}`);
  }
}

async function useAsGuest(bytes: Uint8Array, derivation: KeyDerivation): Promise<void> {
  const storage = new MemoryStorage(new Uint8Array(bytes));
  const image = await openChain(storage, { passphrase: PASSPHRASE, unlock: { derivation } });
  image.read(0, new Uint8Array(60_000));
  image.write(3000, new Uint8Array(80_000).fill(7));
  image.flush();
  image.close();
}

/** Damages a copy of `original` in each of `rounds` rounds and uses it in all ways. Throws with the round and the damage. */
export async function fuzzEncryption(original: FuzzedImage, rounds: number, random: SeededRandom): Promise<number> {
  let successes = 0;
  for (let round = 0; round < rounds; round++) {
    const damage = damaged(original, random);
    for (const [name, use] of Object.entries(uses(original, damage))) {
      const what = `round ${round}, ${name} (${damage.what})`;
      const counted = countedDerivation();
      const began = performance.now();
      try {
        await use(damage.bytes.slice(), counted.derivation);
        successes++;
      } catch (error) {
        if (!isQcow2Error(error)) throw new Error(`${what}: ${String(error)}`, { cause: error });
      }
      expect(performance.now() - began, `milliseconds of ${what}`).toBeLessThan(SLOWEST_MILLISECONDS);
      expect(counted.work, `HMACs of ${what}`).toBeLessThan(MOST_WORK);
    }
  }
  return successes;
}
