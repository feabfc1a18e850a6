/**
 * Read view: how a disk is read through one set of tables, those of an image or of a snapshot in it.
 */
import { codecFor, type ClusterCodec } from '../codec/cluster-codec.js';
import type { Disk, GuestOffset } from '../disk.js';
import type { ImageTables } from '../metadata/image-tables.js';
import { CompressedClusters } from './compressed-clusters.js';
import { planRead, type Mapping } from './read-plan.js';
import { executeRead, type ReadSources } from './read.js';

export interface ReadView {
  readonly mapping: Mapping;
  readonly sources: ReadSources;
  readonly codec: ClusterCodec;
}

export function readViewOf(tables: ImageTables, backing: Disk | null): ReadView {
  const { storage, data, header, geometry, l2, writable } = tables;
  const { clusterSize, subclusterSize } = geometry;
  const codec = codecFor(header.value.compressionType);
  const compressed = new CompressedClusters({
    storage,
    clusterSize,
    codec,
    generation: () => writable?.allocator.generation ?? 0,
  });
  return {
    codec,
    sources: { data, clusterSize, compressed, backing },
    mapping: {
      clusterSize,
      subclusterSize,
      hasBacking: backing !== null,
      get fillLimit() {
        return data === storage ? Infinity : header.value.size;
      },
      runAt: (offset, limit) => l2.runAt(offset, limit),
      storedPart: (guest) => l2.storedPart(guest),
    },
  };
}

/** Reads what lies behind the end of the disk: the VM state, which nothing shows through and which ends with the L1 table. */
export function readBehind(view: ReadView, tables: ImageTables, offset: GuestOffset, target: Uint8Array): void {
  const end = tables.l1.entries * tables.geometry.l2Coverage;
  const length = Math.max(0, Math.min(target.length, end - offset));
  target.fill(0, length);
  const mapping = { ...view.mapping, hasBacking: false };
  executeRead(view.sources, planRead(mapping, offset, length), offset, target);
}
