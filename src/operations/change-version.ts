/**
 * Changing the version of an image: 2 to 3 and back (QEMU: `qemu-img amend -o compat=`).
 *
 * Up, only the header grows, and the snapshot table where entries lack what version 3 asks for. Down, what version 2 can't
 * express is expanded (zero clusters), cleared (lazy refcounts, with the dirty bit; autoclear bits) or refused. One write of
 * the first sector is the switch, see `metadata/header-rewrite.ts`; the tables are such as both versions can read by then.
 *
 * QEMU 7.2 lets an image with zstd clusters down to version 2, where nothing says that they are zstd; refused here.
 */
import { Qcow2Error } from '../errors.js';
import { INCOMPATIBLE_DIRTY, KNOWN_FEATURES, describeBits } from '../format/features.js';
import { withFeatureNames } from '../format/extension-order.js';
import { hasDataFile, type Header } from '../format/header.js';
import type { Qcow2Image } from '../image/qcow2-image.js';
import { encodeFullSnapshots, readSnapshots, tableBytes } from '../metadata/snapshot-records.js';
import { ZeroExpansion } from '../metadata/zero-expansion.js';
import { singleStep, stepsOf, type Steps } from '../util/steps.js';

/** Bytes of compression_type and its padding, behind the fields of version 3. */
const COMPRESSION_TYPE_BYTES = 8;
const LARGEST_VM_STATE_V2 = 2 ** 32 - 1;

export function upgradeVersion(image: Qcow2Image): Steps {
  return singleStep('changing to version 3', () => upgrade(image));
}

function upgrade(image: Qcow2Image): void {
  const { storage, header, geometry, writable } = image.changeableTables();
  const { allocator, order } = writable;
  const old = header.value;
  const snapshots = readSnapshots(storage, old);
  const table = encodeFullSnapshots(snapshots, old.size);
  let { snapshotsOffset } = old;
  if (table !== null) {
    snapshotsOffset = allocator.allocateContiguous(Math.ceil(table.length / geometry.clusterSize));
    storage.write(snapshotsOffset, table);
  }
  order.flush();
  header.rewrite({
    ...old,
    version: 3,
    snapshotsOffset,
    additionalFields: new Uint8Array(COMPRESSION_TYPE_BYTES),
    extensions: withFeatureNames(old.extensions, 3, geometry.clusterSize),
  });
  image.reloadTables();
  if (table === null) return;
  image.changeableTables().writable.allocator.free(old.snapshotsOffset, tableBytes(snapshots));
  image.flush();
}

/** Throws `UNSUPPORTED` for an image of `size` bytes (from then on) that version 2 can't express. */
export function checkDowngrade(image: Qcow2Image, size: number): void {
  const { header, storage } = image;
  const refuse = (why: string): never => {
    throw new Qcow2Error('UNSUPPORTED', `the image can't become version 2: ${why}`);
  };
  if (hasDataFile(header)) refuse('it has an external data file');
  const features = header.incompatible & ~INCOMPATIBLE_DIRTY;
  if (features !== 0n)
    refuse(`incompatible_features has ${describeBits(features, 'incompatible', KNOWN_FEATURES)} set`);
  const unknown = header.additionalFields.findIndex((byte) => byte !== 0);
  if (unknown >= 0) refuse(`its header has a field at offset ${104 + unknown}, behind the end of a version 2 header`);
  for (const { id, diskSize, vmStateBytes } of readSnapshots(storage, header)) {
    if (vmStateBytes > LARGEST_VM_STATE_V2) {
      refuse(`the VM state of snapshot ${id} has ${vmStateBytes} bytes; the limit is ${LARGEST_VM_STATE_V2}`);
    }
    if (diskSize !== null && diskSize !== size) {
      refuse(`the disk had ${diskSize} bytes at snapshot ${id}, and has ${size}; version 2 has one size for all`);
    }
  }
}

/** What `checkDowngrade` refuses has been refused, and refcounts have 16 bits. */
export function downgradeVersion(image: Qcow2Image): Steps {
  const expansion = new ZeroExpansion(image, { hasBacking: image.header.backingFile !== null });
  let switched = false;
  return stepsOf(() => {
    if (switched) return null;
    image.changeableTables().header.beforeChange();
    // When there is no zero cluster left, the header follows in the same step, before the guest can make one.
    const progress = expansion.step();
    if (progress !== null) return progress;
    writeVersion2(image);
    switched = true;
    return { done: 1, total: 1, what: 'changing to version 2' };
  });
}

function writeVersion2(image: Qcow2Image): void {
  // The caller may have asked for lazy refcounts when opening the image; they end here, too.
  if (image.lazyRefcounts) image.reopen({ lazyRefcounts: false });
  // Version 2 has nothing to vouch for bitmaps; QEMU leaves their clusters to leak.
  const { bitmaps } = image.tables;
  if (bitmaps.kept(image.tables)) bitmaps.replace(image.changeableTables(), []);
  const { header, writable, geometry } = image.changeableTables();
  // Clears the dirty bit, which version 2 does not have.
  writable.order.makeClean();
  const old: Header = header.value;
  header.rewrite({
    ...old,
    version: 2,
    incompatible: 0n,
    compatible: 0n,
    autoclear: 0n,
    additionalFields: new Uint8Array(0),
    extensions: withFeatureNames(old.extensions, 2, geometry.clusterSize),
  });
  image.reloadTables();
}
