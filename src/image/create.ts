/**
 * Creating an image: an empty qcow2 file, laid out as
 *
 *   | header | refcount table | refcount blocks | L1 table |     (each from a cluster boundary on, all refcounts 1)
 *
 * The header is written last, after everything it points to is stable.
 */
import { Qcow2Error } from '../errors.js';
import { COMPATIBLE_LAZY_REFCOUNTS, KNOWN_FEATURES, encodeFeatureNames } from '../format/features.js';
import { geometryOf, l1EntriesFor, type Geometry } from '../format/geometry.js';
import { encodeHeader, type Header } from '../format/header.js';
import {
  EXTENSION_BACKING_FORMAT,
  EXTENSION_FEATURE_NAMES,
  type HeaderExtension,
} from '../format/header-extensions.js';
import { MAX_CLUSTER_BITS, MAX_L1_BYTES, MAX_REFCOUNT_TABLE_BYTES, MIN_CLUSTER_BITS } from '../format/limits.js';
import { encodeOnes } from '../metadata/refcount-ones.js';
import { GuardedStorage } from '../storage/guarded.js';
import type { Storage } from '../storage/storage.js';
import { setUint64, viewOf } from '../util/big-endian.js';
import { divideUp, isPowerOfTwo } from '../util/integers.js';

export interface CreateOptions {
  /** Bytes of the disk, a multiple of 512. */
  readonly size: number;
  /** Bytes, a power of two from 512 to 2 MiB. Default 65536. */
  readonly clusterSize?: number;
  /** Default 3. */
  readonly version?: 2 | 3;
  /** Default 16, which is the only width of version 2. */
  readonly refcountBits?: 1 | 2 | 4 | 8 | 16 | 32 | 64;
  /** Version 3 only. Default false. */
  readonly lazyRefcounts?: boolean;
  readonly backing?: { readonly name: string; readonly format: 'qcow2' | 'raw' };
}

/** Where the parts of a new image lie, in clusters. */
interface Layout {
  readonly tableClusters: number;
  readonly blocks: number;
  readonly l1Clusters: number;
  readonly l1Entries: number;
}

/** Makes `storage` an empty image; what it held is gone. Throws `BAD_ARGUMENT` or `LIMIT` before it touches anything. */
export function createImage(storage: Storage, options: CreateOptions): void {
  const geometry = checkedGeometry(options);
  const layout = layOut(geometry, options.size);
  const header = encodeHeader(headerOf(geometry, layout, options));
  const guarded = new GuardedStorage(storage);
  guarded.truncate(0);
  writeRefcounts(guarded, geometry, layout);
  const l1Cluster = 1 + layout.tableClusters + layout.blocks;
  // The L1 table is all zeroes, as the file is where nothing was written.
  guarded.truncate((l1Cluster + layout.l1Clusters) * geometry.clusterSize);
  guarded.flush();
  guarded.write(0, header);
  guarded.flush();
}

function checkedGeometry(options: CreateOptions): Geometry {
  const { size, clusterSize = 65536, version = 3, refcountBits = 16, lazyRefcounts = false } = options;
  const refuse = (message: string): never => {
    throw new Qcow2Error('BAD_ARGUMENT', message);
  };
  if (!Number.isSafeInteger(size) || size < 0 || size % 512 !== 0) {
    refuse(`size is ${size}; it must be a multiple of 512, 0 or more`);
  }
  if (!isPowerOfTwo(clusterSize) || clusterSize < 2 ** MIN_CLUSTER_BITS || clusterSize > 2 ** MAX_CLUSTER_BITS) {
    refuse(`clusterSize is ${clusterSize}; it must be a power of two from 512 to ${2 ** MAX_CLUSTER_BITS}`);
  }
  if (version !== 2 && version !== 3) refuse(`version is ${String(version)}; it must be 2 or 3`);
  if (!isPowerOfTwo(refcountBits) || refcountBits > 64) {
    refuse(`refcountBits is ${refcountBits}; it must be 1, 2, 4, 8, 16, 32 or 64`);
  }
  if (version === 2 && refcountBits !== 16) refuse(`refcountBits is ${refcountBits}; version 2 has 16 only`);
  if (version === 2 && lazyRefcounts) refuse('lazyRefcounts needs version 3');
  const geometry = geometryOf(Math.log2(clusterSize), Math.log2(refcountBits));
  const most = (MAX_L1_BYTES / 8) * geometry.l2Coverage;
  if (size > most) refuse(`size is ${size}; with clusters of ${clusterSize} bytes it must be at most ${most}`);
  return geometry;
}

/** The refcounts count their own blocks and table, so the layout is grown until it covers itself. */
function layOut(geometry: Geometry, size: number): Layout {
  const l1Entries = l1EntriesFor(geometry, size);
  const l1Clusters = divideUp(l1Entries * 8, geometry.clusterSize);
  let blocks = 1;
  let tableClusters = 1;
  for (;;) {
    const clusters = 1 + tableClusters + blocks + l1Clusters;
    const neededBlocks = divideUp(clusters, geometry.refcountBlockEntries);
    const neededTable = divideUp(neededBlocks * 8, geometry.clusterSize);
    if (neededBlocks <= blocks && neededTable <= tableClusters) break;
    blocks = Math.max(blocks, neededBlocks);
    tableClusters = Math.max(tableClusters, neededTable);
  }
  if (tableClusters * geometry.clusterSize > MAX_REFCOUNT_TABLE_BYTES) {
    throw new Qcow2Error('LIMIT', `the refcount table would pass its limit of ${MAX_REFCOUNT_TABLE_BYTES} bytes`);
  }
  return { tableClusters, blocks, l1Clusters, l1Entries };
}

function headerOf(geometry: Geometry, layout: Layout, options: CreateOptions): Header {
  const { version = 3, backing } = options;
  const extensions: HeaderExtension[] = [];
  if (backing) extensions.push({ type: EXTENSION_BACKING_FORMAT, data: new TextEncoder().encode(backing.format) });
  if (version === 3 && geometry.clusterSize > 512 + 256) {
    extensions.push({ type: EXTENSION_FEATURE_NAMES, data: encodeFeatureNames(KNOWN_FEATURES) });
  }
  return {
    version,
    clusterBits: geometry.clusterBits,
    size: options.size,
    cryptMethod: 0,
    l1Entries: layout.l1Entries,
    l1Offset: (1 + layout.tableClusters + layout.blocks) * geometry.clusterSize,
    refcountTableOffset: geometry.clusterSize,
    refcountTableClusters: layout.tableClusters,
    snapshotCount: 0,
    snapshotsOffset: 0,
    incompatible: 0n,
    compatible: options.lazyRefcounts ? COMPATIBLE_LAZY_REFCOUNTS : 0n,
    autoclear: 0n,
    refcountOrder: geometry.refcountOrder,
    headerLength: 0,
    compressionType: 0,
    // compression_type 0 and its padding, as QEMU writes them.
    additionalFields: new Uint8Array(version === 3 ? 8 : 0),
    extensions,
    backingFile: backing ? { name: backing.name, format: backing.format } : null,
    dataFileName: null,
  };
}

function writeRefcounts(storage: Storage, geometry: Geometry, layout: Layout): void {
  const { clusterSize, refcountBlockEntries, refcountOrder } = geometry;
  const used = 1 + layout.tableClusters + layout.blocks + layout.l1Clusters;
  const table = new Uint8Array(layout.tableClusters * clusterSize);
  const view = viewOf(table);
  for (let index = 0; index < layout.blocks; index++) {
    const host = (1 + layout.tableClusters + index) * clusterSize;
    setUint64(view, index * 8, host);
    const block = new Uint8Array(clusterSize);
    const ones = Math.max(0, Math.min(refcountBlockEntries, used - index * refcountBlockEntries));
    encodeOnes(block, refcountOrder, 0, ones);
    storage.write(host, block);
  }
  storage.write(clusterSize, table);
}
