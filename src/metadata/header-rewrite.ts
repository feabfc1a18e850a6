/**
 * Rewriting the header: the record, its extensions and the names behind it, in the first cluster (spec, "Header").
 * All that was there is kept: unknown fields, unknown extensions, feature names.
 *
 * A write is torn at 512 bytes, and a header with a long name has several sectors. The first sector holds every field and
 * the start of the extensions; what lies in the others must never be old where the first is new, or the other way round.
 * So while the others change, the first sector leads past them, over a *bridge*: an extension of a type that nobody knows
 * and everybody skips, as long as the sectors that are in between.
 *
 *   before   | fields, extensions ... | ... extensions, name |                     |
 *   bridged  | fields, bridge ------- | ---- anything ------ | > extensions, name  |    further on in the first cluster
 *   after    | fields, extensions ... | ... extensions, name |                     |
 *
 *   copy at the far end -> |barrier| -> first sector, bridged -> |barrier| -> other sectors -> |barrier| -> first sector
 *
 * Each arrow with a barrier is one sector or unreferenced bytes, so that each state that a crash leaves is the old header
 * or the new one, whole. Two cases are simpler: when only the first sector changes, it is written alone. And when the first
 * cluster has no room for the copy (clusters of 1 or 2 KiB with long names), all is written at once, as QEMU always does.
 *
 * The caller has made stable what the new header points to (invariant 6 of `write-order.ts`).
 */
import { decodeHeader, encodeHeader, type Header } from '../format/header.js';
import { EXTENSION_FEATURE_NAMES, encodeExtensions, type HeaderExtension } from '../format/header-extensions.js';
import { orderExtensions } from '../format/extension-order.js';
import { SECTOR_BYTES } from '../format/limits.js';
import type { Storage } from '../storage/storage.js';
import { getUint64, setUint64, viewOf } from '../util/big-endian.js';
import { alignUp } from '../util/integers.js';

/** The type of the bridge. It is dropped when a header that a crash left bridged is rewritten. */
export const EXTENSION_BRIDGE = 0x7177_6272;

const BACKING_OFFSET_AT = 8;
const BACKING_BYTES_AT = 16;
const EXTENSION_HEAD_BYTES = 4 + 4; // type, length

/**
 * Makes `next` the header of the image, whose header in the file is `current`. Stable when it returns. Returns `next` as it
 * reads from the file. Throws `LIMIT` when it does not fit the first cluster, and `BAD_IMAGE` for a field that breaks the
 * format; nothing has been written then.
 */
export function rewriteHeader(storage: Storage, current: Header, next: Header): Header {
  const clusterSize = 2 ** next.clusterBits;
  const extensions = orderExtensions(next.extensions.filter(({ type }) => type !== EXTENSION_BRIDGE));
  const wanted = { ...next, extensions };
  const encoded = encodeHeader(wanted);
  const target = new Uint8Array(clusterSize);
  target.set(encoded);
  const decoded = decodeHeader(target);
  const before = new Uint8Array(clusterSize);
  storage.read(0, before);
  // What the old header used behind the new one's end becomes zeroes.
  const usedEnd = alignUp(Math.max(encoded.length, usedBytes(current, before)), SECTOR_BYTES);
  if (sameBytes(before, target, SECTOR_BYTES, usedEnd)) {
    storage.write(0, target.subarray(0, SECTOR_BYTES));
    storage.flush();
    return decoded;
  }
  const bridge = buildBridge(target, decoded, usedEnd);
  if (bridge === null) {
    storage.write(0, target.subarray(0, usedEnd));
    storage.flush();
    return decoded;
  }
  writeSteps(storage, [
    { at: usedEnd, bytes: bridge.copy },
    { at: 0, bytes: bridge.firstSector },
    { at: SECTOR_BYTES, bytes: target.subarray(SECTOR_BYTES, usedEnd) },
    { at: 0, bytes: target.subarray(0, SECTOR_BYTES) },
    { at: usedEnd, bytes: new Uint8Array(bridge.copy.length) },
  ]);
  return decoded;
}

/** Bytes of the first cluster that `header`, which it was decoded from, takes. */
function usedBytes(header: Header, cluster: Uint8Array): number {
  const view = viewOf(cluster);
  const nameStart = getUint64(view, BACKING_OFFSET_AT, 'backing_file_offset');
  const nameEnd = nameStart === 0 ? 0 : nameStart + view.getUint32(BACKING_BYTES_AT);
  const extensionsEnd = header.headerLength + encodeExtensions(header.extensions).length;
  return Math.min(cluster.length, Math.max(nameEnd, extensionsEnd));
}

interface Bridge {
  readonly firstSector: Uint8Array;
  /** Extensions and name, to lie from `copyAt` on. */
  readonly copy: Uint8Array;
}

/** The first sector of `target` with all behind its fields moved to `copyAt`. Null where there is no room. */
function buildBridge(target: Uint8Array, header: Header, copyAt: number): Bridge | null {
  const { headerLength } = header;
  if (headerLength + EXTENSION_HEAD_BYTES > SECTOR_BYTES) return null;
  const withoutNames = header.extensions.filter(({ type }) => type !== EXTENSION_FEATURE_NAMES);
  const copied = [header.extensions, withoutNames]
    .map((extensions) => copyOf(extensions, header))
    .find(({ bytes }) => copyAt + bytes.length <= target.length);
  if (copied === undefined) return null;
  const firstSector = target.slice(0, SECTOR_BYTES).fill(0, headerLength);
  const view = viewOf(firstSector);
  view.setUint32(headerLength, EXTENSION_BRIDGE);
  view.setUint32(headerLength + 4, copyAt - headerLength - EXTENSION_HEAD_BYTES);
  if (header.backingFile !== null) setUint64(view, BACKING_OFFSET_AT, copyAt + copied.nameAt);
  return { firstSector, copy: copied.bytes };
}

function copyOf(extensions: readonly HeaderExtension[], header: Header) {
  const encoded = encodeExtensions(extensions);
  const name = new TextEncoder().encode(header.backingFile?.name ?? '');
  const bytes = new Uint8Array(encoded.length + name.length);
  bytes.set(encoded);
  bytes.set(name, encoded.length);
  return { bytes, nameAt: encoded.length };
}

function writeSteps(storage: Storage, steps: readonly { readonly at: number; readonly bytes: Uint8Array }[]): void {
  for (const { at, bytes } of steps) {
    storage.write(at, bytes);
    storage.flush();
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array, start: number, end: number): boolean {
  for (let index = start; index < end; index++) if (a[index] !== b[index]) return false;
  return true;
}
