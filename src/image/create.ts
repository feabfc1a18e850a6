/**
 * Creating an image: an empty qcow2 file, laid out as
 *
 *   | header | refcount table | refcount blocks | L1 table | LUKS header |     (each from a cluster boundary on, all refcounts 1)
 *
 * The header is written last, after everything it points to is stable. Preallocation then is a change of a finished image
 * like any other.
 */
import { Qcow2Error } from '../errors.js';
import { withFeatureNames } from '../format/extension-order.js';
import {
  AUTOCLEAR_RAW_DATA_FILE,
  COMPATIBLE_LAZY_REFCOUNTS,
  INCOMPATIBLE_COMPRESSION_TYPE,
  INCOMPATIBLE_DATA_FILE,
  INCOMPATIBLE_EXTENDED_L2,
} from '../format/features.js';
import { l1EntriesFor, type Geometry } from '../format/geometry.js';
import { encodeHeader, type Header } from '../format/header.js';
import { encodeCryptoExtension } from '../format/crypto-extension.js';
import { CRYPT_AES, CRYPT_LUKS, CRYPT_NONE } from '../format/header-checks.js';
import {
  EXTENSION_BACKING_FORMAT,
  EXTENSION_DATA_FILE,
  EXTENSION_ENCRYPTION,
  type HeaderExtension,
} from '../format/header-extensions.js';
import { MAX_REFCOUNT_TABLE_BYTES } from '../format/limits.js';
import type { SectorCipher } from '../kernels/cipher-contract.js';
import { wasmKernels } from '../kernels/index.js';
import { asChangeable } from '../metadata/changeable-tables.js';
import { readHeader } from '../metadata/header-state.js';
import { encodeOnes } from '../metadata/refcount-ones.js';
import { GuardedStorage } from '../storage/guarded.js';
import type { Storage } from '../storage/storage.js';
import { setUint64, viewOf } from '../util/big-endian.js';
import { divideUp } from '../util/integers.js';
import { runToEnd } from '../util/steps.js';
import { COMPRESSION_TYPES, checkCreateOptions, type CreateOptions } from './create-options.js';
import { guestDataOf } from './image-encryption.js';
import { TablesLoader } from './load-tables.js';
import { preallocate } from './preallocate.js';
import type { NewEncryption } from './unlock-image.js';

export type { CompressionType, CreateOptions, NewDataFile } from './create-options.js';

/** Where the parts of a new image lie, in clusters. */
interface Layout {
  readonly tableClusters: number;
  readonly blocks: number;
  readonly l1Clusters: number;
  readonly l1Entries: number;
  /** The LUKS header with its key slots. */
  readonly areaClusters: number;
}

/** The file that each key is in. */
const filesOfKeys = new WeakMap<SectorCipher, Storage>();

/**
 * Makes `storage` an empty image, and the data file, if there is to be one, an empty file; what they held is gone. Throws
 * `BAD_ARGUMENT` or `LIMIT` before it touches anything; an encryption is refused in a second file, unless it is a borrowed one.
 */
export function createImage(storage: Storage, options: CreateOptions): void {
  const geometry = checkCreateOptions(options);
  const area = options.encryption?.area ?? null;
  const layout = layOut(geometry, options.size, area?.length ?? 0);
  const header = encodeHeader(headerOf(geometry, layout, options));
  takeKey(options.encryption, storage);
  const guarded = new GuardedStorage(storage);
  guarded.truncate(0);
  writeRefcounts(guarded, geometry, layout);
  const l1Cluster = 1 + layout.tableClusters + layout.blocks;
  const areaCluster = l1Cluster + layout.l1Clusters;
  // The L1 table is all zeroes, as the file is where nothing was written. Where it is the last, the file ends with it.
  const l1End = l1Cluster * geometry.clusterSize + layout.l1Entries * 8;
  guarded.truncate(area === null ? l1End : (areaCluster + layout.areaClusters) * geometry.clusterSize);
  if (area !== null) guarded.write(areaCluster * geometry.clusterSize, area);
  guarded.flush();
  guarded.write(0, header);
  guarded.flush();
  const data = options.dataFile === undefined ? guarded : makeDataFile(options.dataFile.storage, options.size);
  preallocateNew(guarded, data, options);
}

/**
 * Two files with one key give away what they have in common (`operations/copy-encryption.ts`, where it is done knowingly), and the first
 * that is closed would wipe the key of both. The same file may be made anew: it may have faulted half way.
 */
function takeKey(encryption: NewEncryption | undefined, storage: Storage): void {
  if (encryption === undefined || encryption.opened.borrowed === true) return;
  const { cipher } = encryption.opened;
  if ((filesOfKeys.get(cipher) ?? storage) !== storage) {
    const problem = 'encryption is that of another image already, which would have the same key';
    throw new Qcow2Error('BAD_ARGUMENT', `${problem}; call newEncryption() for each image`);
  }
  filesOfKeys.set(cipher, storage);
}

function makeDataFile(storage: Storage, size: number): GuardedStorage {
  const data = new GuardedStorage(storage);
  data.truncate(0);
  data.truncate(size);
  data.flush();
  return data;
}

function preallocateNew(storage: GuardedStorage, data: GuardedStorage, options: CreateOptions): void {
  const { size, dataFile, preallocation = 'off' } = options;
  // A raw data file answers for every cluster, so every cluster has its entry.
  const mode = dataFile?.raw === true && preallocation === 'off' ? 'metadata' : preallocation;
  if (mode === 'off') return;
  const header = readHeader(storage);
  const guestData = guestDataOf(header, data, options.encryption?.opened);
  const loader = new TablesLoader({ storage, data, guestData, kernels: wasmKernels, onCorruption: undefined });
  const tables = asChangeable(loader.load(header, { writable: true, options: {} }));
  runToEnd(preallocate({ changeableTables: () => tables }, { from: 0, to: size, mode, backingSize: 0 }));
  tables.writable.order.makeClean();
}

/** The refcounts count their own blocks and table, so the layout is grown until it covers itself. */
function layOut(geometry: Geometry, size: number, areaBytes: number): Layout {
  const l1Entries = l1EntriesFor(geometry, size);
  const l1Clusters = divideUp(l1Entries * 8, geometry.clusterSize);
  const areaClusters = divideUp(areaBytes, geometry.clusterSize);
  let blocks = 1;
  let tableClusters = 1;
  for (;;) {
    const clusters = 1 + tableClusters + blocks + l1Clusters + areaClusters;
    const neededBlocks = divideUp(clusters, geometry.refcountBlockEntries);
    const neededTable = divideUp(neededBlocks * 8, geometry.clusterSize);
    if (neededBlocks <= blocks && neededTable <= tableClusters) break;
    blocks = Math.max(blocks, neededBlocks);
    tableClusters = Math.max(tableClusters, neededTable);
  }
  if (tableClusters * geometry.clusterSize > MAX_REFCOUNT_TABLE_BYTES) {
    throw new Qcow2Error('LIMIT', `the refcount table would pass its limit of ${MAX_REFCOUNT_TABLE_BYTES} bytes`);
  }
  return { tableClusters, blocks, l1Clusters, l1Entries, areaClusters };
}

function headerOf(geometry: Geometry, layout: Layout, options: CreateOptions): Header {
  const { version = 3, backing, dataFile, compressionType = 'zlib', extendedL2 = false } = options;
  const compression = COMPRESSION_TYPES.indexOf(compressionType);
  const text = new TextEncoder();
  const extensions: HeaderExtension[] = [];
  if (backing) extensions.push({ type: EXTENSION_BACKING_FORMAT, data: text.encode(backing.format) });
  if (dataFile) extensions.push({ type: EXTENSION_DATA_FILE, data: text.encode(dataFile.name) });
  const { encryption } = options;
  if (encryption?.area) {
    const offset = (1 + layout.tableClusters + layout.blocks + layout.l1Clusters) * geometry.clusterSize;
    extensions.push({
      type: EXTENSION_ENCRYPTION,
      data: encodeCryptoExtension({ offset, length: encryption.area.length }),
    });
  }
  // compression_type and its padding, as QEMU writes them.
  const additionalFields = new Uint8Array(version === 3 ? 8 : 0);
  if (compression > 0) additionalFields[0] = compression;
  return {
    version,
    clusterBits: geometry.clusterBits,
    size: options.size,
    cryptMethod: encryption === undefined ? CRYPT_NONE : encryption.area === null ? CRYPT_AES : CRYPT_LUKS,
    l1Entries: layout.l1Entries,
    l1Offset: (1 + layout.tableClusters + layout.blocks) * geometry.clusterSize,
    refcountTableOffset: geometry.clusterSize,
    refcountTableClusters: layout.tableClusters,
    snapshotCount: 0,
    snapshotsOffset: 0,
    incompatible:
      (dataFile ? INCOMPATIBLE_DATA_FILE : 0n) |
      (compression > 0 ? INCOMPATIBLE_COMPRESSION_TYPE : 0n) |
      (extendedL2 ? INCOMPATIBLE_EXTENDED_L2 : 0n),
    compatible: options.lazyRefcounts ? COMPATIBLE_LAZY_REFCOUNTS : 0n,
    autoclear: dataFile?.raw === true ? AUTOCLEAR_RAW_DATA_FILE : 0n,
    refcountOrder: geometry.refcountOrder,
    headerLength: 0,
    compressionType: compression,
    additionalFields,
    extensions: withFeatureNames(extensions, version, geometry.clusterSize),
    backingFile: backing ? { name: backing.name, format: backing.format } : null,
    dataFileName: dataFile?.name ?? null,
  };
}

function writeRefcounts(storage: Storage, geometry: Geometry, layout: Layout): void {
  const { clusterSize, refcountBlockEntries, refcountOrder } = geometry;
  const used = 1 + layout.tableClusters + layout.blocks + layout.l1Clusters + layout.areaClusters;
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
