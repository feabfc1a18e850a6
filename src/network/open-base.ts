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
import { baseChanged, digestIdentity, digestOf } from './base-identity.js';
import { ChunkCache } from './chunk-cache.js';
import { DEFAULT_CHUNK_BYTES, checkChunkBytes, type ChunkGeometry } from './chunk-geometry.js';
import type { ChunkSource, SourceHost } from './chunk-source.js';
import type { Fetch } from './http.js';
import { KeptBases, type BaseFiles, type KeptBase } from './kept-bases.js';
import type { EstimateRoom } from './make-offline.js';
import { NetworkBase } from './network-base.js';
import { RangeSource, checkPin, firstRangeAnswer } from './range-source.js';
import { DEFAULT_PATIENCE, withRetries, type Patience } from './retry.js';
import { manifestIdentity } from './split-manifest.js';
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

/** What opening needs of the world. */
export interface NetworkHost {
  readonly fetch: Fetch;
  readonly patience?: Partial<Patience>;
  /** Null keeps what is fetched in memory. */
  readonly files: BaseFiles | null;
  /** How much room the site has to keep bases in; asked before all of one is fetched. */
  readonly estimateRoom?: EstimateRoom;
  /** For chunks that can't be kept in a file. Default 32 MiB. */
  readonly memoryBytes?: number;
  /** One operation that reads more than that at a time gets more, up to this; beyond it fails with `LIMIT`. Default: no bound. */
  readonly maxMemoryBytes?: number;
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

interface Found {
  readonly source: ChunkSource;
  /** As in `CacheLabel`. */
  readonly served: string | null;
  readonly chunk: Uint8Array<ArrayBuffer> | null;
}

class BaseOpener {
  readonly #host: NetworkHost;
  readonly #address: BaseAddress;
  readonly #kept: KeptBases;
  readonly #traffic = new NetworkTraffic();
  readonly #patience: Patience;

  constructor(host: NetworkHost, address: BaseAddress) {
    checkAddress(address);
    this.#host = host;
    this.#address = address;
    this.#kept = new KeptBases(host.files, address.url);
    this.#patience = { ...DEFAULT_PATIENCE, ...host.patience };
  }

  async open({ pin = null, signal }: OpenBaseOptions): Promise<NetworkBase> {
    // A digest that the author gives says which version it is before anybody is asked. Of a split image it is the manifest's to say.
    const { digest, split = false } = this.#address;
    const given = digest === undefined || split ? null : digestIdentity(digest);
    if (pin !== null && given !== null && digestOf(pin) !== null && pin !== given) {
      throw baseChanged(this.#address.url, pin, given);
    }
    const known = pin ?? given;
    const kept = known === null ? null : await this.#kept.open(known);
    if (kept !== null) return this.#baseFrom(kept);
    let found: Found;
    try {
      found = await withRetries(() => this.#ask(pin, signal ?? NEVER_ABORTED), {
        patience: this.#patience,
        signal: signal ?? NEVER_ABORTED,
        onRetry: () => this.#traffic.noteRetry(),
      });
    } catch (error) {
      const newest = known === null && isQcow2Error(error, 'NETWORK') ? await this.#kept.newest() : null;
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
  async #keep({ source, served, chunk }: Found): Promise<NetworkBase> {
    let problem: Qcow2Error | null = null;
    let kept: KeptBase | null = null;
    try {
      const label = { url: this.#address.url, identity: source.identity, served };
      kept = await this.#kept.openOrCreate({ geometry: source.geometry, label });
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

  #baseFrom(kept: KeptBase): NetworkBase {
    const { geometry, label } = kept.file;
    const { url, split = false } = this.#address;
    // What is here was read.
    this.#traffic.isReadable = true;
    const options = { url, geometry, identity: label.identity };
    const host = this.#sourceHost();
    const source = split ? new SplitSource(host, options) : new RangeSource(host, { ...options, served: label.served });
    return this.#base(source, this.#cacheOf(geometry, kept, null), kept);
  }

  #cacheOf(geometry: ChunkGeometry, kept: KeptBase | null, problem: Qcow2Error | null): ChunkCache {
    const { memoryBytes = DEFAULT_MEMORY_BYTES, maxMemoryBytes = Infinity } = this.#host;
    const nowhere =
      kept === null && problem === null ? new Qcow2Error('UNSUPPORTED', 'there is no place to keep it in') : problem;
    const takeLock = kept?.shared.takeLock ?? null;
    const room = { memoryBytes, maxMemoryBytes };
    return new ChunkCache({ geometry, file: kept?.file ?? null, problem: nowhere, takeLock, ...room });
  }

  #base(source: ChunkSource, cache: ChunkCache, kept: KeptBase | null): NetworkBase {
    const { url, name = url } = this.#address;
    const [traffic, patience] = [this.#traffic, this.#patience];
    const { estimateRoom = null } = this.#host;
    const onClose = (): void => kept?.shared.release();
    return new NetworkBase({ name, url, source, cache, traffic, patience, estimateRoom, onClose });
  }

  #sourceHost(): SourceHost {
    return { fetch: this.#host.fetch, patience: this.#patience, traffic: this.#traffic };
  }
}

const NEVER_ABORTED = new AbortController().signal;

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
