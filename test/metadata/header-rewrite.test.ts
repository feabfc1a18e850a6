/**
 * Rewriting the header: everything is kept, nothing too large is written, and whatever of its writes is lost or torn, the old
 * header or the new one is read.
 */
import { describe, expect, it } from 'vitest';
import { withExtension, withFeatureNames } from '../../src/format/extension-order.js';
import { decodeHeader, type Header } from '../../src/format/header.js';
import {
  EXTENSION_BACKING_FORMAT,
  EXTENSION_BITMAPS,
  EXTENSION_FEATURE_NAMES,
} from '../../src/format/header-extensions.js';
import { createImage } from '../../src/index.js';
import { readHeader } from '../../src/metadata/header-state.js';
import { EXTENSION_BRIDGE, rewriteHeader } from '../../src/metadata/header-rewrite.js';
import { MemoryStorage } from '../../src/storage/memory.js';
import { RecordingStorage, type StorageEvent } from '../crash/recording-storage.js';

const SECTOR = 512;

function imageBytes(options: { clusterSize?: number; version?: 2 | 3; name?: string } = {}): Uint8Array {
  const { clusterSize = 65536, version = 3, name } = options;
  const storage = new MemoryStorage();
  const backing = name === undefined ? {} : { backing: { name, format: 'raw' } as const };
  createImage(storage, { size: 0x10_0000, clusterSize, version, ...backing });
  return storage.toBytes();
}

function headerOf(file: Uint8Array): Header {
  return readHeader(new MemoryStorage(file.slice()));
}

function withBacking(header: Header, name: string | null): Header {
  const format = name === null ? null : new TextEncoder().encode('raw');
  return {
    ...header,
    backingFile: name === null ? null : { name, format: 'raw' },
    extensions: withExtension(header.extensions, EXTENSION_BACKING_FORMAT, format),
  };
}

function asVersion(header: Header, version: 2 | 3): Header {
  const extensions = withFeatureNames(header.extensions, version, 2 ** header.clusterBits);
  const bits = version === 2 ? { incompatible: 0n, compatible: 0n, autoclear: 0n } : {};
  return { ...header, ...bits, version, extensions, additionalFields: new Uint8Array(version === 3 ? 8 : 0) };
}

/** All of a header that a crash must keep: not the bridge, and not the courtesy of feature names. */
function essence(header: Header): unknown {
  const { headerLength: _, ...rest } = header;
  const kept = header.extensions.filter(({ type }) => type !== EXTENSION_BRIDGE && type !== EXTENSION_FEATURE_NAMES);
  return { ...rest, extensions: kept.map(({ type, data }) => [type, [...data]]) };
}

/** Every state that a crash can leave: after each barrier any subset of the sectors written until the next. */
function* tornStates(start: Uint8Array, events: readonly StorageEvent[]): Generator<Uint8Array> {
  const stable = start.slice();
  let pending: { readonly at: number; readonly bytes: Uint8Array }[] = [];
  for (const event of [...events, { kind: 'flush' } as const]) {
    if (event.kind === 'write') pending.push(...sectorsOf(event));
    if (event.kind !== 'flush') continue;
    for (let subset = 0; subset < 2 ** pending.length; subset++) {
      const state = stable.slice();
      pending.forEach(({ at, bytes }, index) => {
        if (((subset >> index) & 1) === 1) state.set(bytes, at);
      });
      yield state;
    }
    for (const { at, bytes } of pending) stable.set(bytes, at);
    pending = [];
  }
}

function sectorsOf(event: { readonly offset: number; readonly bytes: Uint8Array }) {
  const pieces: { readonly at: number; readonly bytes: Uint8Array }[] = [];
  for (let done = 0; done < event.bytes.length;) {
    const at = event.offset + done;
    const length = Math.min(event.bytes.length - done, SECTOR - (at % SECTOR));
    pieces.push({ at, bytes: event.bytes.subarray(done, done + length) });
    done += length;
  }
  return pieces;
}

const LONG = `/a/long/name/${'n'.repeat(700)}`;
const CHANGES: readonly (readonly [string, Uint8Array, (header: Header) => Header])[] = [
  ['a long name where there was none', imageBytes(), (header) => withBacking(header, LONG)],
  ['no name where there was a long one', imageBytes({ name: LONG }), (header) => withBacking(header, null)],
  [
    'one long name for another',
    imageBytes({ name: LONG }),
    (header) => withBacking(header, `${LONG}/${LONG.slice(9)}`.slice(0, 999)),
  ],
  ['a short name', imageBytes(), (header) => withBacking(header, 'base')],
  ['version 2, with a name', imageBytes({ name: LONG }), (header) => asVersion(header, 2)],
  ['version 3, with a name', imageBytes({ version: 2, name: LONG }), (header) => asVersion(header, 3)],
  ['clusters of 4 KiB', imageBytes({ clusterSize: 4096, name: LONG }), (header) => withBacking(header, 'base')],
  ['clusters of 512 bytes', imageBytes({ clusterSize: 512 }), (header) => withBacking(header, 'b'.repeat(300))],
];

describe('a rewritten header', () => {
  for (const [title, file, change] of CHANGES) {
    it(`is the old or the new one in every torn state: ${title}`, () => {
      const storage = new RecordingStorage(file);
      const before = headerOf(file);
      const after = rewriteHeader(storage, before, change(before));
      const possible = [essence(before), essence(after)];
      let states = 0;
      for (const state of tornStates(storage.start, storage.events)) {
        expect(possible).toContainEqual(essence(headerOf(state)));
        states++;
      }
      expect(states).toBeGreaterThan(1);
    });
  }

  it('reads as it was asked for, and leaves nothing behind itself', () => {
    const storage = new RecordingStorage(imageBytes({ name: LONG }));
    const before = headerOf(storage.start);
    const after = rewriteHeader(storage, before, withBacking(before, 'b'));
    expect(essence(readHeader(storage))).toEqual(essence(after));
    const cluster = new Uint8Array(65536);
    storage.read(0, cluster);
    const used = new TextDecoder().decode(cluster).replace(/\0+$/, '').length;
    expect(used).toBe(112 + 16 + 8 + 384 + 8 + 1);
  });

  it('rewritten after a crash on the bridge has no trace of it', () => {
    const storage = new RecordingStorage(imageBytes());
    const before = headerOf(storage.start);
    rewriteHeader(storage, before, withBacking(before, LONG));
    const bridged = [...tornStates(storage.start, storage.events)].filter((state) =>
      headerOf(state).extensions.some(({ type }) => type === EXTENSION_BRIDGE),
    );
    expect(bridged.length).toBeGreaterThan(0);
    for (const state of bridged) {
      const again = new MemoryStorage(state.slice());
      const header = readHeader(again);
      rewriteHeader(again, header, withBacking(header, 'base'));
      expect(readHeader(again).extensions.map(({ type }) => type)).not.toContain(EXTENSION_BRIDGE);
      expect(readHeader(again).backingFile).toEqual({ name: 'base', format: 'raw' });
    }
  });

  it('keeps unknown fields, unknown extensions and bitmaps, in the order QEMU writes them', () => {
    const storage = new MemoryStorage(imageBytes());
    const before = readHeader(storage);
    const unknown = [
      { type: 0x1234_5678, data: Uint8Array.of(1, 2, 3) },
      { type: EXTENSION_BITMAPS, data: new Uint8Array(24).fill(5) },
      { type: 0x0bad_cafe, data: new Uint8Array(0) },
    ];
    const additionalFields = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 9, 8, 7, 6, 5, 4, 3, 2);
    rewriteHeader(storage, before, { ...before, additionalFields, extensions: [...unknown, ...before.extensions] });
    const once = readHeader(storage);
    rewriteHeader(storage, once, withBacking(once, LONG));
    const after = readHeader(storage);
    expect(after.headerLength).toBe(120);
    expect(after.additionalFields).toEqual(additionalFields);
    expect(after.extensions.map(({ type }) => type)).toEqual([
      EXTENSION_BACKING_FORMAT,
      EXTENSION_FEATURE_NAMES,
      EXTENSION_BITMAPS,
      0x1234_5678,
      0x0bad_cafe,
    ]);
    for (const { type, data } of unknown) {
      expect(after.extensions.find((extension) => extension.type === type)?.data).toEqual(data);
    }
  });

  it('that does not fit the first cluster is refused, and nothing is written', () => {
    const storage = new RecordingStorage(imageBytes({ clusterSize: 1024 }));
    const before = headerOf(storage.start);
    expect(() => rewriteHeader(storage, before, withBacking(before, 'n'.repeat(1000)))).toThrow(
      expect.objectContaining({ code: 'LIMIT', message: 'the header needs 1136 bytes; the first cluster has 1024' }),
    );
    expect(storage.events).toEqual([]);
  });

  it('that breaks the format is refused, and nothing is written', () => {
    const storage = new RecordingStorage(imageBytes());
    const before = headerOf(storage.start);
    expect(() => rewriteHeader(storage, before, { ...before, l1Offset: 4711 })).toThrow(
      expect.objectContaining({ code: 'BAD_IMAGE' }),
    );
    expect(storage.events).toEqual([]);
  });

  it('with no room for a second copy is written at once', () => {
    const storage = new RecordingStorage(imageBytes({ clusterSize: 1024 }));
    const before = headerOf(storage.start);
    const after = rewriteHeader(storage, before, withBacking(before, 'n'.repeat(800)));
    expect(storage.events.map(({ kind }) => kind)).toEqual(['write', 'flush']);
    const cluster = new Uint8Array(1024);
    storage.read(0, cluster);
    expect(essence(decodeHeader(cluster))).toEqual(essence(after));
  });
});
