/**
 * Crashes while the passphrases of an image are changed and a guest writes to it: any unstable writes lost or torn, the image has
 * no corruption, every flushed byte, and
 *
 * 1. a passphrase that was not to be changed opens it;
 * 2. of one that takes the place of another, the old or the new one does, and what opens it reads the disk;
 * 3. no slot says that it is in use whose passphrase does not open it.
 */
import { describe, expect, it } from 'vitest';
import {
  addPassphrase,
  changePassphrase,
  erasePassphrase,
  isQcow2Error,
  MemoryStorage,
  newEncryption,
  openImage,
  unlockImage,
  createImage,
  type Qcow2Image,
} from '../../src/index.js';
import { activeSlots } from '../../src/crypto/luks-volume.js';
import { openSlots } from '../../src/crypto/luks.js';
import { keyTools, readVolume } from '../../src/image/unlock-image.js';
import { readHeader } from '../../src/metadata/header-state.js';
import { readWhole } from '../support/disk-actions.js';
import { PASSPHRASE } from '../support/encrypted-image.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { expectLeaksOnly } from './crash-judges.js';
import { crashStates, statesWithAll } from './crash-states.js';
import { GuestHistory } from './guest-history.js';
import { RecordingStorage } from './recording-storage.js';

const STATES = Math.ceil(Number(process.env['CRASH_STATES'] ?? 54) / 6);
const SIZE = 0x2_0000;
const cheap = { iterTime: 0 } as const;

const OLD = 'the old one';
const NEW = 'the new one';
const renewed = { passphrase: OLD, newPassphrase: NEW, ...cheap };

interface Change {
  readonly title: string;
  readonly clusterSize: number;
  readonly change: (image: Qcow2Image) => Promise<unknown>;
  /** Which of the two open the image at any moment. */
  readonly either: readonly ('old' | 'new' | 'both' | 'none')[];
}

const CHANGES: readonly Change[] = [
  {
    title: 'one is added',
    clusterSize: 4096,
    change: (image) => addPassphrase(image, renewed),
    either: ['old', 'both'],
  },
  {
    title: 'one is added in slot 6, whose entry lies in two sectors',
    clusterSize: 512,
    change: (image) => addPassphrase(image, { ...renewed, slot: 6 }),
    either: ['old', 'both'],
  },
  {
    title: 'one takes the place of another',
    clusterSize: 4096,
    change: (image) => changePassphrase(image, renewed),
    either: ['old', 'both', 'new'],
  },
  {
    title: 'one is forced into the slot of another',
    clusterSize: 4096,
    change: (image) => addPassphrase(image, { ...renewed, slot: 1, force: true }),
    either: ['old', 'both', 'new'],
  },
  {
    title: 'one is erased',
    clusterSize: 65536,
    change: (image) => erasePassphrase(image, { passphrase: OLD }),
    either: ['old', 'none'],
  },
  {
    title: 'one comes and goes again',
    clusterSize: 4096,
    change: async (image) => {
      await addPassphrase(image, renewed);
      await erasePassphrase(image, { passphrase: NEW });
    },
    either: ['old', 'both'],
  },
];

/** An image that opens with PASSPHRASE and OLD. */
async function startOf(clusterSize: number): Promise<Uint8Array> {
  const made = await newEncryption({ format: 'luks', cipher: 'aes-128', passphrase: PASSPHRASE, ...cheap });
  const storage = new MemoryStorage();
  createImage(storage, { size: SIZE, clusterSize, encryption: made });
  const image = openImage(storage, { encryption: made.opened });
  await addPassphrase(image, { passphrase: PASSPHRASE, newPassphrase: OLD, ...cheap });
  image.close();
  return storage.toBytes();
}

/** The change, in the midst of a guest's writes. */
async function record({ change }: Change, start: Uint8Array) {
  const storage = new RecordingStorage(start);
  const encryption = await unlockImage(storage, PASSPHRASE);
  const image = openImage(storage, { encryption });
  const history = new GuestHistory(readWhole(image));
  const write = (offset: number, value: number) => {
    const begun = storage.events.length;
    image.write(offset, new Uint8Array(9000).fill(value));
    history.changed(begun, { offset, length: 9000 }, readWhole(image));
  };
  write(100, 1);
  image.flush();
  history.flushed(storage.events.length, readWhole(image));
  write(5000, 2);
  const begun = storage.events.length;
  const changed = change(image);
  write(50_000, 3);
  await changed;
  const ended = storage.events.length;
  write(5000, 4);
  image.close();
  return { storage, history, during: { from: begun, to: ended } };
}

/** The disk in `file` by the passphrase that is not to be changed. */
async function diskOf(file: Uint8Array): Promise<Uint8Array> {
  const storage = new MemoryStorage(file.slice());
  const image = openImage(storage, { encryption: await unlockImage(storage, PASSPHRASE) });
  const disk = readWhole(image);
  image.close();
  return disk;
}

interface Slots {
  /** All but slot 0, which is not to be changed. */
  readonly inUse: readonly number[];
  readonly byOld: readonly number[];
  readonly byNew: readonly number[];
}

/** A slot that opens gives the key whose digest the header has: the one of the disk. */
async function slotsOf(file: Uint8Array): Promise<Slots> {
  const storage = new MemoryStorage(file.slice());
  const volume = readVolume(storage, readHeader(storage));
  const inUse = activeSlots(volume.header).filter((slot) => slot !== 0);
  const openedBy = async (passphrase: string): Promise<readonly number[]> => {
    if (inUse.length === 0) return [];
    try {
      const bytes = new TextEncoder().encode(passphrase);
      return (await openSlots(volume, bytes, keyTools({}), { among: inUse })).slots;
    } catch (error) {
      if (isQcow2Error(error, 'WRONG_PASSPHRASE')) return [];
      throw error;
    }
  };
  return { inUse, byOld: await openedBy(OLD), byNew: await openedBy(NEW) };
}

function openingOf({ byOld, byNew }: Slots): Change['either'][number] {
  if (byOld.length > 0) return byNew.length > 0 ? 'both' : 'old';
  return byNew.length > 0 ? 'new' : 'none';
}

describe('after a crash an image opens with its passphrases', () => {
  for (const [salt, scenario] of CHANGES.entries()) {
    it(scenario.title, () =>
      withSeed(scenario.title, seedOfThisRun(salt + 400), async (random) => {
        const start = await startOf(scenario.clusterSize);
        const { storage, history, during } = await record(scenario, start);
        const seen = new Set<string>();
        const states = crashStates(start, storage.events, { count: STATES, near: [] }, random);
        for (const state of [...states, ...statesWithAll(start, storage.events, during)]) {
          const when = `a crash after event ${state.at} of ${storage.events.length}, keeping ${state.keeping}`;
          expectLeaksOnly(state.file, when);
          history.expectKept(state.at, await diskOf(state.file));
          const slots = await slotsOf(state.file);
          expect([...slots.byOld, ...slots.byNew].toSorted(), when).toEqual(slots.inUse);
          expect(scenario.either, when).toContain(openingOf(slots));
          seen.add(openingOf(slots));
        }
        expect(seen.size, 'the crashes lie before the change, and behind it').toBeGreaterThan(1);
      }),
    );
  }
});
