/**
 * Compressed writes: a cluster is compressed, packed behind other compressed data and linked (spec, "Compressed Clusters
 * Descriptor"). Several share one host cluster, whose refcount counts them.
 */
import type { ClusterCodec } from '../codec/cluster-codec.js';
import type { GuestOffset } from '../disk.js';
import { compressedOffsetLimit } from '../format/compressed-descriptor.js';
import type { Geometry } from '../format/geometry.js';
import type { Allocator } from '../metadata/allocator.js';
import type { L2Tables } from '../metadata/l2-tables.js';
import type { Storage } from '../storage/storage.js';

export interface CompressedTarget {
  readonly storage: Storage;
  readonly allocator: Allocator;
  readonly l2: L2Tables;
  readonly geometry: Geometry;
}

/**
 * Writes one cluster at `guest`; `content` may be shorter at the end of the disk and is filled up with zeroes. Returns
 * false, and has written no data, for what does not get smaller or would lie where no descriptor reaches.
 */
export function writeCompressedCluster(
  target: CompressedTarget,
  codec: ClusterCodec,
  guest: GuestOffset,
  content: Uint8Array,
): boolean {
  const { storage, allocator, l2, geometry } = target;
  const packed = codec.compress(filledUp(content, geometry.clusterSize));
  if (packed === null || packed.length >= geometry.clusterSize) return false;
  const cluster = guest / geometry.clusterSize;
  l2.prepare(cluster, 1);
  // A refcount block may come before it.
  if (storage.size + 2 * geometry.clusterSize > compressedOffsetLimit(geometry.clusterBits)) return false;
  const host = allocator.allocateBytes(packed.length);
  storage.announce?.('write_compressed');
  storage.write(host, packed);
  l2.linkCompressed(cluster, { host, length: packed.length });
  return true;
}

function filledUp(content: Uint8Array, clusterSize: number): Uint8Array {
  if (content.length === clusterSize) return content;
  const whole = new Uint8Array(clusterSize);
  whole.set(content);
  return whole;
}
