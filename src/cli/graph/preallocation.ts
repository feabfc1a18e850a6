/**
 * Preallocated metadata: an image whose clusters have their places, and whose file has not got the room for them. Such clusters read as
 * zeroes, which the host knows and the tables do not.
 */
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { refcountReader } from '../../metadata/refcount-reader.js';

/** Clusters that a file may lack room for all the same: of the header and the L1 table, which are shorter than theirs. */
const SHORT_CLUSTERS = 2;

/** Whether clearly more clusters are counted than the host has given room to. QEMU's rule, but for the clusters that are short here. */
export function isPreallocated(image: Qcow2Image, allocatedBytes: number | null): boolean {
  if (allocatedBytes === null) return false;
  const { clusterSize, tables, storage } = image;
  const real = Math.floor(allocatedBytes / clusterSize);
  const threshold = Math.max(Math.floor((real * 10) / 9), real + 2) + SHORT_CLUSTERS;
  const end = Math.ceil(storage.size / clusterSize);
  if (end < threshold) return false;
  const countOf = refcountReader(tables);
  let counted = 0;
  for (let cluster = 0; cluster < end && counted < threshold; cluster++) if (countOf(cluster) > 0) counted++;
  return counted >= threshold;
}
