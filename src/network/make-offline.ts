/**
 * All of a base image here, and right. What is fetched is kept chunk by chunk, so that whatever ends it has lost nothing:
 *
 *   1. there is room for what is missing, as far as the browser can tell; otherwise nothing is fetched
 *   2. what is missing is fetched; the first chunk that can't be kept ends it
 *   3. all is read again and compared with its checksums; what was damaged is fetched anew
 *   4. where an author's digest tells the version, nothing smaller was ever compared with it: so the SHA-256 of the whole is now, once
 *
 * Bytes that do not have the digest are of no use to any disk. The file is marked, the next opening deletes it, and fetches all of it anew.
 */
import { sha256 } from '@noble/hashes/sha2.js';
import { Qcow2Error } from '../errors.js';
import type { Progress } from '../util/progress.js';
import { baseChanged } from './base-identity.js';
import type { ChunkCache } from './chunk-cache.js';
import { indicesOf } from './chunk-geometry.js';
import type { ChunkSource } from './chunk-source.js';
import { throwIfAborted } from './retry.js';
import { hexDigits } from './split-manifest.js';

/** Of fetching what reads back wrong. */
const MOST_ROUNDS = 3;

/** What a browser says of the room that a site has; in bytes. */
export interface RoomEstimate {
  readonly quota?: number;
  readonly usage?: number;
}

export type EstimateRoom = () => Promise<RoomEstimate>;

export interface PrefetchJob {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

export interface OfflineParts {
  readonly url: string;
  readonly source: ChunkSource;
  readonly cache: ChunkCache;
  readonly estimateRoom: EstimateRoom | null;
  /** Fetches the chunks that are not here. */
  readonly prefetch: (indices: readonly number[], job: PrefetchJob) => Promise<void>;
  /** Throws where the base has been closed meanwhile. */
  readonly checkOpen: () => void;
}

/** @throws Qcow2Error `NO_SPACE`, `IN_USE` or whatever else keeps it from being kept, `BASE_CHANGED`; as fetching does; `ABORTED`. */
export async function makeOffline(parts: OfflineParts, job: PrefetchJob): Promise<void> {
  const { cache, source, url } = parts;
  const all = indicesOf({ first: 0, count: source.geometry.count });
  await cache.keepAgain();
  cache.checkKept();
  await checkRoom(parts);
  for (let round = 1; ; round++) {
    await parts.prefetch(all, job);
    await cache.whenKept();
    parts.checkOpen();
    cache.checkKept();
    const damaged = await verifyAll(parts, job);
    if (damaged === 0) return;
    if (round === MOST_ROUNDS) {
      throw new Qcow2Error('IO', `${damaged} of ${all.length} chunks of ${url} read back wrong, ${round} times over`);
    }
  }
}

/** Whether it is all here and was never compared with its digest. */
export function awaitsComparison({ cache, source }: OfflineParts): boolean {
  if (source.wholeDigest === null || cache.notes?.digest !== 'not compared') return false;
  return cache.keptBytes() === source.geometry.size;
}

/**
 * Compares all that is kept with its checksums, and with the digest that the whole must have. A guest gets its turn between two chunks.
 * @returns how many chunks were not as they came. @throws Qcow2Error `BASE_CHANGED` where it has another digest, `ABORTED`.
 */
export async function verifyAll(parts: OfflineParts, { signal, onProgress }: PrefetchJob): Promise<number> {
  const { cache, source, url } = parts;
  const { geometry, wholeDigest } = source;
  const hash = wholeDigest !== null && cache.notes?.digest !== 'holds' ? sha256.create() : null;
  let damaged = 0;
  for (let index = 0; index < geometry.count; index++) {
    const length = geometry.length(index);
    if (!cache.verify(index)) damaged++;
    else if (hash !== null) {
      const bytes = new Uint8Array(length);
      cache.read(index, 0, bytes);
      hash.update(bytes);
    }
    onProgress?.({ done: geometry.start(index) + length, total: geometry.size, what: 'verifying the base image' });
    await new Promise((resolve) => setTimeout(resolve, 0));
    parts.checkOpen();
    throwIfAborted(signal);
  }
  if (hash === null || damaged > 0) return damaged;
  const found = hexDigits(hash.digest());
  cache.noteDigest(found === wholeDigest ? 'holds' : 'wrong');
  if (found !== wholeDigest) throw baseChanged(url, `SHA-256 ${wholeDigest}`, `SHA-256 ${found}`);
  return 0;
}

async function checkRoom({ url, cache, source, estimateRoom }: OfflineParts): Promise<void> {
  const missing = source.geometry.size - cache.keptBytes();
  // A browser that does not tell finds out chunk by chunk.
  const { quota, usage }: RoomEstimate = (await estimateRoom?.().catch(() => null)) ?? {};
  if (quota === undefined || usage === undefined || missing <= quota - usage) return;
  throw new Qcow2Error(
    'NO_SPACE',
    `${missing} bytes of ${url} are missing, and the browser has room for ${Math.max(0, quota - usage)} more of this site`,
  );
}
