/** Making and unlocking, and the bounds on what an image may ask for. That QEMU understands the same: `test/interop/`. */
import { describe, expect, it, vi } from 'vitest';
import { HASH_NAMES } from '../../src/crypto/hashes.js';
import { webKeyDerivation } from '../../src/crypto/key-derivation.js';
import { slotOrder, slotWork, workLimits } from '../../src/crypto/key-limits.js';
import { addKeySlot } from '../../src/crypto/luks-amend.js';
import { createLuks, luksAreaBytes, type LuksOptions } from '../../src/crypto/luks-create.js';
import type { KeyTools } from '../../src/crypto/luks-key-slots.js';
import { carryOut } from '../../src/crypto/key-slot-writes.js';
import { readLuksVolume, type AreaReader } from '../../src/crypto/luks-volume.js';
import { unlock } from '../../src/crypto/luks.js';
import { keySlotAt } from '../../src/format/luks-header.js';
import { MemoryStorage } from '../../src/index.js';
import { bytesOf, createCipher, newArea, rejection, tools, volumeOf } from './luks-volumes.js';

const PASSPHRASE = 'correct horse';

/** `area` with the iteration count of a slot, or of the digest, set. */
function withIterations(area: Uint8Array, slot: number | 'digest', iterations: number): Uint8Array<ArrayBuffer> {
  const changed = Buffer.from(area);
  changed.writeUInt32BE(iterations, slot === 'digest' ? 164 : keySlotAt(slot) + 4);
  return new Uint8Array(changed);
}

/** The area after `passphrases` have been added to it, in this order. */
async function withAdded(area: Uint8Array<ArrayBuffer>, ...passphrases: string[]): Promise<Uint8Array<ArrayBuffer>> {
  const storage = new MemoryStorage(area);
  for (const added of passphrases) {
    const request = { passphrase: bytesOf(PASSPHRASE), newPassphrase: bytesOf(added), iterTime: 0 };
    const { plan } = await addKeySlot(volumeOf(storage.toBytes()), request, tools);
    carryOut(plan, storage);
  }
  return storage.toBytes();
}

/** Tools that count derivations and never make one. */
function idleTools(options: Partial<KeyTools> = {}): KeyTools & { readonly made: number[] } {
  const made: number[] = [];
  const pbkdf2: KeyTools['derivation']['pbkdf2'] = async ({ iterations, length }) => {
    made.push(iterations);
    return new Uint8Array(length);
  };
  return { ...tools, derivation: { ...webKeyDerivation, pbkdf2 }, ...options, made };
}

describe('a new header area', () => {
  const CIPHERS: readonly LuksOptions[] = [
    {},
    { cipher: 'aes-128', mode: 'xts', iv: 'plain' },
    { cipher: 'aes-192', mode: 'xts', iv: 'essiv' },
    { cipher: 'aes-256', mode: 'cbc', iv: 'essiv' },
    { cipher: 'aes-128', mode: 'cbc', iv: 'essiv', ivHash: 'md5' },
    { cipher: 'aes-128', mode: 'ctr', iv: 'plain64' },
    { cipher: 'aes-256', mode: 'ecb', iv: 'plain64', ivHash: 'sha1' },
    ...HASH_NAMES.map((hash) => ({ cipher: 'aes-128', mode: 'cbc', hash }) as const),
  ];

  it.each(CIPHERS)('with %o opens with its passphrase and gives its key', async (options) => {
    const { area, key, cipher } = await createLuks({ ...options, iterTime: 0 }, bytesOf(PASSPHRASE), tools);
    const volume = volumeOf(area);
    expect(area.length).toBe(luksAreaBytes(options));
    expect(volume.header.payloadSector * 512).toBe(area.length);
    expect(volume.cipher).toEqual(cipher);
    const unlocked = await unlock(volume, bytesOf(PASSPHRASE), tools);
    expect(unlocked).toEqual({ key, slot: 0 });
  });

  it('has the defaults of QEMU', async () => {
    const { cipher, hash, header } = volumeOf(await newArea(PASSPHRASE));
    expect({ cipher, hash }).toEqual({ cipher: { cipher: 'aes-256', mode: 'xts', iv: 'plain64' }, hash: 'sha256' });
    expect(header.slots.map(({ active }) => active)).toEqual([true, ...Array<boolean>(7).fill(false)]);
    expect(header.uuid).toMatch(/^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/);
  });

  it('asks for as many iterations as fill the time', async () => {
    let time = 0;
    const slow: KeyTools = {
      ...tools,
      now: () => time,
      derivation: {
        ...webKeyDerivation,
        pbkdf2: (request) => {
          time += request.iterations / 1000; // 1,000,000 HMACs a second
          return webKeyDerivation.pbkdf2(request);
        },
      },
    };
    const { area } = await createLuks({ iterTime: 500 }, bytesOf(PASSPHRASE), slow);
    const { header } = volumeOf(area);
    expect(header.slots[0]?.iterations).toBe(250_000); // two HMACs an iteration
    expect(header.keyDigestIterations).toBe(62_500); // one, and an eighth of the time
  });

  it('is made and opened where there is no secure context: no WebCrypto but its random numbers', async () => {
    const { getRandomValues } = globalThis.crypto;
    vi.stubGlobal('crypto', { getRandomValues: getRandomValues.bind(globalThis.crypto) });
    try {
      const uuids = await Promise.all(
        [1, 2].map(async () => {
          const volume = volumeOf(await newArea(PASSPHRASE));
          expect((await unlock(volume, bytesOf(PASSPHRASE), tools)).slot).toBe(0);
          return volume.header.uuid;
        }),
      );
      for (const uuid of uuids)
        expect(uuid).toMatch(/^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
      expect(new Set(uuids).size).toBe(2);
    } finally {
      vi.unstubAllGlobals();
    }
  });

  it('opens with the empty passphrase where it was made with it, as QEMU has it, and not otherwise', async () => {
    expect((await unlock(volumeOf(await newArea('')), bytesOf(''), tools)).slot).toBe(0);
    const message = await rejection(unlock(volumeOf(await newArea(PASSPHRASE)), bytesOf(''), tools));
    expect(message).toContain('the passphrase does not open key slot 0');
  });

  it.each([
    [
      { cipher: 'serpent-256' },
      /^BAD_ARGUMENT: the cipher is "serpent-256"; it must be one of aes-128, aes-192, aes-256/,
    ],
    [
      { cipher: 'aes-192', mode: 'cbc' },
      /^BAD_ARGUMENT: the cipher is aes-192 in mode cbc; in LUKS it must have mode xts/,
    ],
    [{ mode: 'gcm' }, /^BAD_ARGUMENT: the cipher mode is "gcm"; it must be one of xts, cbc, ecb, ctr/],
    [{ iv: 'benbi' }, /^BAD_ARGUMENT: the IV generator is "benbi"; it must be one of plain, plain64, essiv/],
    [{ iv: 'essiv', ivHash: 'sha512' }, /^BAD_ARGUMENT: the IV hash is sha512 with essiv; it must be md5 or sha256/],
    [{ hash: 'whirlpool' }, /^BAD_ARGUMENT: the hash is "whirlpool"; it must be one of md5, /],
    [{ iterTime: -5 }, /^BAD_ARGUMENT: iterTime is -5; it must be 0 or more milliseconds/],
  ])('is refused with %o', async (options, message) => {
    const wrong = options as LuksOptions;
    expect(await rejection(createLuks(wrong, bytesOf(PASSPHRASE), tools))).toMatch(message);
  });
});

describe('unlocking', () => {
  it('finds the slot of each passphrase, and the same key behind all', async () => {
    const volume = volumeOf(await withAdded(await newArea(PASSPHRASE), 'second', 'third'));
    const unlocked = await Promise.all(
      [PASSPHRASE, 'second', 'third'].map((passphrase) => unlock(volume, bytesOf(passphrase), tools)),
    );
    expect(unlocked.map(({ slot }) => slot)).toEqual([0, 1, 2]);
    expect(unlocked[1]?.key).toEqual(unlocked[0]?.key);
    expect(unlocked[2]?.key).toEqual(unlocked[0]?.key);
  });

  it('says of a wrong passphrase how many slots it does not open, and nothing of the passphrase', async () => {
    const volume = volumeOf(await withAdded(await newArea(PASSPHRASE), 'second'));
    const message = await rejection(unlock(volume, bytesOf('not this one'), tools));
    expect(message).toMatch(/: the passphrase does not open any of 2 key slots$/);
  });

  it('says that no slot is in use', async () => {
    const area = Buffer.from(await newArea(PASSPHRASE));
    area.writeUInt32BE(0x0000_dead, keySlotAt(0));
    expect(await rejection(unlock(volumeOf(area), bytesOf(PASSPHRASE), tools))).toMatch(
      /^BAD_IMAGE: no key slot is in use/,
    );
  });

  it('fails when one byte of the key material is not as it was', async () => {
    const area = await newArea(PASSPHRASE);
    area[4096 + 100_000]! ^= 1;
    expect(await rejection(unlock(volumeOf(area), bytesOf(PASSPHRASE), tools))).toContain('does not open key slot 0');
  });

  it('leaves the volume as it is, so that it can be asked again', async () => {
    const volume = volumeOf(await newArea(PASSPHRASE));
    await rejection(unlock(volume, bytesOf('wrong'), tools));
    expect((await unlock(volume, bytesOf(PASSPHRASE), tools)).slot).toBe(0);
  });

  it('wipes each key that it made on the way, but for the one it returns, and leaves the passphrase alone', async () => {
    const keys: Uint8Array[] = [];
    let forgotten = 0;
    const watching: KeyTools = {
      ...tools,
      createCipher: (options) => {
        keys.push(options.key);
        const cipher = createCipher(options);
        return { ...cipher, wipe: () => void (forgotten++, cipher.wipe()) };
      },
    };
    const area = await withAdded(await newArea(PASSPHRASE), 'second');
    const passphrase = bytesOf('second');
    const { key } = await unlock(volumeOf(area), passphrase, watching);
    expect(keys.length).toBe(2);
    expect(keys.every((bytes) => bytes.every((byte) => byte === 0))).toBe(true);
    expect(forgotten).toBe(2);
    expect(key.some((byte) => byte !== 0)).toBe(true);
    expect(passphrase).toEqual(bytesOf('second'));
  });
});

describe('an image that asks for too much', () => {
  it('is refused before anything is derived, with what it asks for and the limit', async () => {
    const area = withIterations(await newArea(PASSPHRASE), 0, 0xffff_ffff);
    const idle = idleTools();
    expect(await rejection(unlock(volumeOf(area), bytesOf(PASSPHRASE), idle))).toBe(
      'LIMIT: the passphrase could not be tried on all key slots: slot 0 for 8589935590 HMACs of sha256; ' +
        'they may ask for 268435456 each and 1073741824 in all, unless maxDerivationWork allows more',
    );
    expect(idle.made).toEqual([]);
  });

  it('is refused also when it is the digest of the key that asks', async () => {
    const area = withIterations(await newArea(PASSPHRASE), 'digest', 0xffff_ffff);
    const idle = idleTools();
    expect(await rejection(unlock(volumeOf(area), bytesOf(PASSPHRASE), idle))).toMatch(
      /slot 0 for 4294969295 HMACs of sha256; they may/,
    );
    expect(idle.made).toEqual([]);
  });

  it('may ask for less where the hash runs in JavaScript, and for a quarter where an HMAC takes four times as long', async () => {
    const area = withIterations(await newArea(PASSPHRASE, { hash: 'ripemd160' }), 0, 2 ** 24);
    expect(await rejection(unlock(volumeOf(area), bytesOf(PASSPHRASE), idleTools()))).toMatch(
      /^LIMIT: .*: slot 0 for 67109864 HMACs of ripemd160; they may ask for 67108864 each and 268435456 in all/,
    );
    const native = { derivation: { ...webKeyDerivation, isNative: () => true } };
    expect(workLimits(native, 'sha512')).toEqual({ slot: 2 ** 26, total: 2 ** 28 });
  });

  it('has its slots share one limit, and those that fit are tried, the cheapest first', async () => {
    let area = await withAdded(await newArea(PASSPHRASE), 'second', 'third');
    for (const [slot, iterations] of [
      [0, 60],
      [1, 60],
      [2, 20],
    ] as const)
      area = withIterations(area, slot, iterations);
    area = withIterations(area, 'digest', 5);
    const idle = idleTools({ maxDerivationWork: 200 }); // two HMACs an iteration: 125, 125 and 45
    expect(await rejection(unlock(volumeOf(area), bytesOf(PASSPHRASE), idle))).toMatch(
      /: slot 1 for 125 HMACs of sha256; they may ask for 200 each and 200 in all/,
    );
    expect(idle.made).toEqual([20, 5, 60, 5]);
  });

  it('is opened all the same by who has a slot that does not', async () => {
    const area = withIterations(await withAdded(await newArea(PASSPHRASE), 'second'), 0, 0xffff_ffff);
    expect((await unlock(volumeOf(area), bytesOf('second'), tools)).slot).toBe(1);
  });

  it('is opened by who allows it', async () => {
    const volume = volumeOf(await newArea(PASSPHRASE));
    const exact = slotWork(volume.header, 'sha256', 0);
    expect(await rejection(unlock(volume, bytesOf(PASSPHRASE), { ...tools, maxDerivationWork: exact - 1 }))).toMatch(
      /^LIMIT/,
    );
    expect((await unlock(volume, bytesOf(PASSPHRASE), { ...tools, maxDerivationWork: exact })).slot).toBe(0);
  });

  it.each([0, -1, NaN, '8' as never])('is not bounded by %s', async (maxDerivationWork) => {
    const search = unlock(volumeOf(await newArea(PASSPHRASE)), bytesOf(PASSPHRASE), { ...tools, maxDerivationWork });
    expect(await rejection(search)).toBe(
      `BAD_ARGUMENT: maxDerivationWork is ${String(maxDerivationWork)}; it must be more than 0`,
    );
  });

  /** Eight slots, measured on a machine with SHA instructions, and what QEMU's `iter-time` makes of them. */
  const eightSlots = (iterTime: number, speed: number) => ({
    keyBytes: 64,
    keyDigestIterations: (2_100_000 * iterTime * speed) / 2000,
    slots: Array.from({ length: 8 }, () => ({ iterations: (8_400_000 * iterTime * speed) / 2000 })),
  });
  const triedOf = (counts: ReturnType<typeof eightSlots>, native: boolean) => {
    const limits = workLimits({ derivation: { ...webKeyDerivation, isNative: () => native } }, 'sha256');
    return slotOrder(counts, 'sha256', [0, 1, 2, 3, 4, 5, 6, 7], limits).tried.length;
  };

  it('is none that QEMU made by default: eight slots of a fast machine are tried, with WebCrypto and without', () => {
    expect(triedOf(eightSlots(2000, 1.7), true)).toBe(8);
    expect(triedOf(eightSlots(2000, 1.7), false)).toBe(8);
    expect(triedOf(eightSlots(10_000, 1), true)).toBe(8);
    expect(triedOf(eightSlots(10_000, 1), false)).toBe(0);
  });

  it('takes minutes at most, however its slots are made', () => {
    const speeds = { native: 5_700_000, javascript: 600_000 }; // HMACs a second of SHA-256 and SHA-224, measured
    for (const native of [true, false]) {
      const { slot, total } = workLimits({ derivation: { ...webKeyDerivation, isNative: () => native } }, 'sha256');
      const speed = native ? speeds.native : speeds.javascript;
      expect(slot / speed, 'seconds of a slot').toBeLessThan(native ? 60 : 120);
      expect(total / speed, 'seconds of all').toBeLessThan(native ? 240 : 480);
      const slots = Array.from({ length: 8 }, () => ({ iterations: slot / 2 - 1 }));
      expect(triedOf({ keyBytes: 64, keyDigestIterations: 1, slots }, native)).toBe(4);
    }
  });

  it('can be given up between two slots', async () => {
    const area = await withAdded(await newArea(PASSPHRASE), 'second');
    const controller = new AbortController();
    const idle = idleTools({ signal: controller.signal });
    const search = unlock(volumeOf(area), bytesOf('second'), idle);
    controller.abort();
    expect(await rejection(search)).toMatch(/^ABORTED: /);
    expect(idle.made.length).toBe(2); // slot 0 and its digest
  });
});

describe('a volume', () => {
  /** The offsets that reading the volume in `area` asks for. */
  const readsOf = (area: Uint8Array): { offsets: number[]; outcome: string } => {
    const offsets: number[] = [];
    const read: AreaReader = (offset, target) => {
      offsets.push(offset);
      target.set(area.subarray(offset, offset + target.length));
    };
    try {
      readLuksVolume(read, area.length);
      return { offsets, outcome: 'read' };
    } catch (error) {
      return { offsets, outcome: String(error) };
    }
  };

  it('is its header and the key material of the slots in use, and nothing else is read', async () => {
    const area = await withAdded(await newArea(PASSPHRASE), 'second');
    expect(readsOf(area)).toEqual({ offsets: [0, 8 * 512, 512 * 512], outcome: 'read' });
  });

  it('whose header is damaged, or names what is not handled, is refused before key material is read', async () => {
    const area = await newArea(PASSPHRASE);
    const serpent = area.slice();
    serpent.set(bytesOf('serpent'), 8);
    expect(readsOf(serpent)).toEqual({ offsets: [0], outcome: expect.stringContaining('"serpent"') as string });
    expect(readsOf(area.fill(0, 0, 6))).toEqual({
      offsets: [0],
      outcome: expect.stringContaining('no LUKS') as string,
    });
  });
});
