/**
 * Compressed clusters, read: the stream is fetched, decompressed and the cluster kept for a while, because a guest reads a
 * cluster in several requests. Bounded by bytes.
 */
import type { ClusterCodec } from '../codec/cluster-codec.js';
import type { GuestOffset, HostOffset } from '../disk.js';
import type { CompressedDescriptor } from '../format/compressed-descriptor.js';
import type { Storage } from '../storage/storage.js';
import { hex } from '../util/integers.js';

const CACHE_BYTES = 4 * 1024 * 1024;

export interface CompressedClustersOptions {
  readonly storage: Storage;
  readonly clusterSize: number;
  readonly codec: ClusterCodec;
  /** A number that changes when host clusters may have been put to another use. */
  readonly generation: () => number;
}

export class CompressedClusters {
  readonly #storage: Storage;
  readonly #clusterSize: number;
  readonly #codec: ClusterCodec;
  readonly #generation: () => number;
  /** The generation that the kept clusters are of. */
  #keptIn: number;
  /** In the order of last use. */
  readonly #kept = new Map<HostOffset, Uint8Array>();

  constructor(options: CompressedClustersOptions) {
    this.#storage = options.storage;
    this.#clusterSize = options.clusterSize;
    this.#codec = options.codec;
    this.#generation = options.generation;
    this.#keptIn = options.generation();
  }

  /** The content of the cluster at `guest`, to be read only. Throws `BAD_IMAGE` for a damaged stream. */
  cluster(descriptor: CompressedDescriptor, guest: GuestOffset): Uint8Array {
    const generation = this.#generation();
    if (generation !== this.#keptIn) this.#kept.clear();
    this.#keptIn = generation;
    const known = this.#kept.get(descriptor.host);
    if (known !== undefined) {
      this.#kept.delete(descriptor.host);
      this.#kept.set(descriptor.host, known);
      return known;
    }
    const source = new Uint8Array(descriptor.length);
    this.#storage.announce?.('read_compressed');
    this.#storage.read(descriptor.host, source);
    const content = this.#takeBuffer();
    this.#codec.decompress(source, content, `the compressed cluster of guest offset ${hex(guest)}`);
    this.#kept.set(descriptor.host, content);
    return content;
  }

  #takeBuffer(): Uint8Array<ArrayBuffer> {
    const limit = Math.max(1, Math.floor(CACHE_BYTES / this.#clusterSize));
    if (this.#kept.size >= limit) {
      const [oldest] = this.#kept.keys();
      this.#kept.delete(oldest!);
    }
    return new Uint8Array(this.#clusterSize);
  }
}
