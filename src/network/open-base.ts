/**
 * From a URL to an open base image.
 *
 *   pinned, and a cache file of that version is here      open at once; the network is asked for what is missing only
 *   otherwise                                             ask the server: the answer has size, version and the first chunk
 *   no answer, nothing pinned, but a cache file is here   open that one
 *
 * Invariant: what is read through one base is of one version. A pin is that of the disk that stands on it.
 */
import { Qcow2Error, isQcow2Error } from '../errors.js';
import type { Storage } from '../storage/storage.js';
import { digestIdentity, digestOf } from './base-identity.js';
import { CacheFile } from './cache-file.js';
import { ChunkCache, type Held, type TakeLock } from './chunk-cache.js';
import { DEFAULT_CHUNK_BYTES, checkChunkBytes, type ChunkGeometry } from './chunk-geometry.js';
import type { ChunkSource, SourceHost } from './chunk-source.js';
import type { Fetch } from './http.js';
import { NetworkBase } from './network-base.js';
import { RangeSource, checkPin, firstRangeAnswer } from './range-source.js';
import { DEFAULT_PATIENCE, withRetries, type Patience } from './retry.js';
import { digestText, manifestIdentity } from './split-manifest.js';
import { SplitSource, fetchManifest } from './split-source.js';
import { NetworkTraffic } from './traffic.js';

const DEFAULT_MEMORY_BYTES = 32 * 1024 * 1024;

/** A base image on a server. */
export interface BaseAddress {
  /** Absolute. Of the image; of the manifest, if it is split. */
  readonly url: string;
  /** The name by which images record it. Default: the URL. */
  readonly name?: string;
  /** It is a split image, for hosts without Range. Default false. */
  readonly split?: boolean;
  /** SHA-256 of the image in hexadecimal digits: tells its version where the server does not. */
  readonly digest?: string;
  /** A power of two from 64 KiB to 4 MiB; that of the parts, if it is split; that of the cache, if there is one. Default 128 KiB. */
  readonly chunkBytes?: number;
}

/** A file that all threads of the origin may have open, and their locks for it. */
export interface SharedFile {
  readonly storage: Storage;
  readonly takeLock: TakeLock;
  /** The storage is closed by now. */
  release(): void;
}

/** Where bases are kept, each version in a file of its own. */
export interface BaseFiles {
  /** Null where there is none and none is to be made. @throws Qcow2Error `IN_USE`, `NO_SPACE`, `IO`. */
  open(name: string, options: { readonly create: boolean }): Promise<SharedFile | null>;
  /** The newest first. */
  list(): Promise<string[]>;
  /** A file as it is now, to be looked at whoever has it open; null where there is none. */
  peek(name: string): Promise<Storage | null>;
  /** Whether a thread has it open. */
  isOpen(name: string): Promise<boolean>;
  /** Deletes what nobody has open. @returns whether it is gone. */
  remove(name: string): Promise<boolean>;
}

/** What opening needs of the world. */
export interface NetworkHost {
  readonly fetch: Fetch;
  readonly patience?: Partial<Patience>;
  /** Null keeps what is fetched in memory. */
  readonly files: BaseFiles | null;
  /** For chunks that can't be kept in a file. Default 32 MiB. */
  readonly memoryBytes?: number;
}

export interface OpenBaseOptions {
  /** The version that the disk stands on; null for whichever there is. */
  readonly pin?: string | null;
  readonly signal?: AbortSignal | undefined;
}

/**
 * @throws Qcow2Error `NETWORK`, `NOT_FOUND`, `BASE_CHANGED` where the server has another version than the pinned one and this one is not here,
 * `UNSUPPORTED` for a server without Range, `BAD_IMAGE` for a bad manifest, `BAD_ARGUMENT`, `LIMIT`, `ABORTED`.
 */
export async function openNetworkBase(
  host: NetworkHost,
  address: BaseAddress,
  options: OpenBaseOptions = {},
): Promise<NetworkBase> {
  return new BaseOpener(host, address).open(options);
}

/** The name of the file that keeps a version of a base. */
export function baseFileName(url: string, identity: string): string {
  return `${baseFilePrefix(url)}${digestText(new TextEncoder().encode(identity)).slice(0, 24)}.base`;
}

interface Found {
  readonly source: ChunkSource;
  /** As in `CacheLabel`. */
  readonly served: string | null;
  readonly chunk: Uint8Array<ArrayBuffer> | null;
}

interface OpenCache {
  readonly file: CacheFile;
  readonly shared: SharedFile;
}

class BaseOpener {
  readonly #host: NetworkHost;
  readonly #address: BaseAddress;
  readonly #traffic = new NetworkTraffic();
  readonly #patience: Patience;

  constructor(host: NetworkHost, address: BaseAddress) {
    checkAddress(address);
    this.#host = host;
    this.#address = address;
    this.#patience = { ...DEFAULT_PATIENCE, ...host.patience };
  }

  async open({ pin = null, signal }: OpenBaseOptions): Promise<NetworkBase> {
    // A digest that the author gives says which version it is before anybody is asked. Of a split image it is the manifest's to say.
    const { digest, split = false } = this.#address;
    const known = pin ?? (digest === undefined || split ? null : digestIdentity(digest));
    const kept = known === null ? null : await this.#openKept(baseFileName(this.#address.url, known));
    if (kept !== null) return this.#baseFrom(kept);
    let found: Found;
    try {
      found = await withRetries(() => this.#ask(pin, signal ?? NEVER_ABORTED), {
        patience: this.#patience,
        signal: signal ?? NEVER_ABORTED,
        onRetry: () => this.#traffic.noteRetry(),
      });
    } catch (error) {
      const newest = known === null && isQcow2Error(error, 'NETWORK') ? await this.#openNewest() : null;
      if (newest === null) throw error;
      return this.#baseFrom(newest);
    }
    checkPin(this.#address.url, pin, found.source);
    return this.#keep(found);
  }

  /** Asks the server what the base is. One attempt. */
  async #ask(pin: string | null, signal: AbortSignal): Promise<Found> {
    const { url, split = false, chunkBytes = DEFAULT_CHUNK_BYTES, digest } = this.#address;
    const host = this.#sourceHost();
    if (!split) {
      // A disk that was made before its author gave a digest goes on by what the server says.
      const isByServer = digest === undefined || (pin !== null && digestOf(pin) === null);
      return firstRangeAnswer(host, { url, chunkBytes, digest: isByServer ? null : digestIdentity(digest), signal });
    }
    const manifest = await fetchManifest(host, url, signal);
    const identity = manifestIdentity(manifest);
    const source = new SplitSource(host, { url, geometry: manifest.geometry, identity, manifest });
    return { source, served: null, chunk: null };
  }

  /** The base that was found on its server, with a file to keep it in; that of an earlier visit, if there is one. */
  async #keep(found: Found): Promise<NetworkBase> {
    const { source, served, chunk } = found;
    let problem: Qcow2Error | null = null;
    let kept: OpenCache | null = null;
    try {
      kept = await this.#openOrCreate(found);
    } catch (error) {
      if (!isQcow2Error(error)) throw error;
      problem = new Qcow2Error(error.code, `the base image is not kept here: ${error.message}`, { cause: error });
    }
    // Of another size of chunks, or of what the server had under another name: what is here came first.
    const isOther = kept?.file.geometry.chunkBytes !== source.geometry.chunkBytes || kept.file.label.served !== served;
    if (kept !== null && isOther) return this.#baseFrom(kept);
    const cache = this.#cacheOf(source.geometry, kept, problem);
    if (chunk !== null && !cache.has(0)) await cache.take(0, chunk);
    return this.#base(source, cache, kept);
  }

  async #openOrCreate({ source: { geometry, identity }, served }: Found): Promise<OpenCache | null> {
    const { url } = this.#address;
    const shared = (await this.#host.files?.open(baseFileName(url, identity), { create: true })) ?? null;
    if (shared === null) return null;
    return this.#claimed(shared, () => {
      const label = { url, identity, served };
      const file = CacheFile.open(shared.storage) ?? CacheFile.create(shared.storage, geometry, label);
      file.notes.lastUsed = Date.now();
      return { file, shared };
    });
  }

  /** Null where there is no such file, where it is only half made, and where another tab has it for itself. */
  async #openKept(name: string): Promise<OpenCache | null> {
    try {
      const shared = (await this.#host.files?.open(name, { create: false })) ?? null;
      if (shared === null) return null;
      return await this.#claimed(shared, () => {
        const file = CacheFile.open(shared.storage);
        if (file === null) return null;
        file.notes.lastUsed = Date.now();
        return { file, shared };
      });
    } catch (error) {
      if (isQcow2Error(error)) return null;
      throw error;
    }
  }

  async #openNewest(): Promise<OpenCache | null> {
    const prefix = baseFilePrefix(this.#address.url);
    for (const name of (await this.#host.files?.list()) ?? []) {
      const kept = name.startsWith(prefix) ? await this.#openKept(name) : null;
      if (kept !== null) return kept;
    }
    return null;
  }

  /** What `make` returns, with the append lock held: nobody else makes the file meanwhile. Where it is null the file is closed. */
  async #claimed<T extends OpenCache | null>(shared: SharedFile, make: () => T): Promise<T> {
    let lock: Held | null = null;
    let made: T | null = null;
    try {
      lock = await shared.takeLock('append');
      made = make();
      return made;
    } finally {
      lock?.release();
      if (made === null) closeShared(shared);
    }
  }

  #baseFrom(kept: OpenCache): NetworkBase {
    const { geometry, label } = kept.file;
    const { url, split = false } = this.#address;
    const options = { url, geometry, identity: label.identity };
    const host = this.#sourceHost();
    const source = split ? new SplitSource(host, options) : new RangeSource(host, { ...options, served: label.served });
    return this.#base(source, this.#cacheOf(geometry, kept, null), kept);
  }

  #cacheOf(geometry: ChunkGeometry, kept: OpenCache | null, problem: Qcow2Error | null): ChunkCache {
    const { memoryBytes = DEFAULT_MEMORY_BYTES } = this.#host;
    const nowhere =
      kept === null && problem === null ? new Qcow2Error('UNSUPPORTED', 'there is no place to keep it in') : problem;
    const takeLock = kept?.shared.takeLock ?? null;
    return new ChunkCache({ geometry, file: kept?.file ?? null, problem: nowhere, takeLock, memoryBytes });
  }

  #base(source: ChunkSource, cache: ChunkCache, kept: OpenCache | null): NetworkBase {
    const { url, name = url } = this.#address;
    const [traffic, patience] = [this.#traffic, this.#patience];
    return new NetworkBase({ name, url, source, cache, traffic, patience, onClose: () => kept?.shared.release() });
  }

  #sourceHost(): SourceHost {
    return {
      fetch: this.#host.fetch,
      patience: this.#patience,
      onBytes: (count) => this.#traffic.noteBytes(count),
      onRequest: () => this.#traffic.noteRequest(),
    };
  }
}

const NEVER_ABORTED = new AbortController().signal;

function baseFilePrefix(url: string): string {
  return `${digestText(new TextEncoder().encode(url)).slice(0, 24)}-`;
}

function closeShared(shared: SharedFile): void {
  try {
    shared.storage.close();
  } finally {
    shared.release();
  }
}

/** @throws Qcow2Error `BAD_ARGUMENT`. */
export function checkAddress({ url, chunkBytes, digest, split = false }: BaseAddress): void {
  if (!/^https?:\/\//i.test(url) || !URL.canParse(url)) {
    throw new Qcow2Error(
      'BAD_ARGUMENT',
      `the base image's URL ${JSON.stringify(url)} is not absolute, or not of http or https`,
    );
  }
  if (url.includes('#'))
    throw new Qcow2Error('BAD_ARGUMENT', `the base image's URL ${JSON.stringify(url)} has a fragment`);
  if (chunkBytes !== undefined) checkChunkBytes(chunkBytes);
  if (digest !== undefined) digestIdentity(digest);
  if (split && digest !== undefined) {
    throw new Qcow2Error(
      'BAD_ARGUMENT',
      'a split image has a digest of each part in its manifest; "digest" is for one file',
    );
  }
}
