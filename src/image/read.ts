/** Reading: carries a read plan out. May throw `NotResident`; `target` is then filled in part, and nothing else changed. */
import type { Disk, Extent, GuestOffset } from '../disk.js';
import type { GuestData } from '../storage/guest-data.js';
import type { CompressedClusters } from './compressed-clusters.js';

export interface ReadSources {
  readonly data: GuestData;
  readonly clusterSize: number;
  readonly compressed: CompressedClusters;
  readonly backing: Disk | null;
}

/** Fills `target`, which starts at guest offset `start`, from `extents`, which cover it. */
export function executeRead(
  sources: ReadSources,
  extents: Iterable<Extent>,
  start: GuestOffset,
  target: Uint8Array,
): void {
  for (const extent of extents) {
    const from = extent.offset - start;
    readExtent(sources, extent, target.subarray(from, from + extent.length));
  }
}

function readExtent(sources: ReadSources, extent: Extent, target: Uint8Array): void {
  switch (extent.kind) {
    case 'data':
      sources.data.read(extent.host, target, extent.offset);
      return;
    case 'compressed': {
      const within = extent.offset % sources.clusterSize;
      const descriptor = { host: extent.host, length: extent.hostLength };
      const content = sources.compressed.cluster(descriptor, extent.offset - within);
      target.set(content.subarray(within, within + target.length));
      return;
    }
    case 'backing':
      readBacking(sources.backing!, extent.offset, target);
      return;
    case 'zero':
    case 'unallocated':
      target.fill(0);
  }
}

/** A backing file may be shorter than its overlay; it reads as zeroes from its end on. */
function readBacking(backing: Disk, offset: GuestOffset, target: Uint8Array): void {
  const available = Math.max(0, Math.min(target.length, backing.size - offset));
  if (available > 0) backing.read(offset, target.subarray(0, available));
  target.fill(0, available);
}
