/**
 * Metadata places: where a repair must not write although a table seems to lie there. A damaged L1 table may name the
 * header, or the refcount table, as an L2 table; setting a flag "in" it would destroy what really lies there.
 */
import { cryptoAreaOf } from '../format/header.js';
import { MAX_L1_BYTES } from '../format/limits.js';
import type { ImageUnderCheck } from './image-under-check.js';
import type { RecordedRefcounts } from './recorded-refcounts.js';
import type { SnapshotList } from './listed-snapshots.js';

interface Place {
  readonly name: string;
  readonly start: number;
  readonly end: number;
}

export class MetadataPlaces {
  readonly #places: readonly Place[];
  readonly #blocks = new Set<number>();
  readonly #clusterSize: number;

  constructor(image: ImageUnderCheck, recorded: RecordedRefcounts, snapshots: SnapshotList) {
    const { l1Offset, l1Entries, refcountTableOffset, snapshotsOffset } = image.header;
    const encryption = cryptoAreaOf(image.header);
    const place = (name: string, start: number, length: number): Place => ({ name, start, end: start + length });
    this.#clusterSize = image.clusterSize;
    this.#places = [
      place('the header', 0, image.clusterSize),
      place('the L1 table', l1Offset, l1Entries * 8),
      place('the refcount table', refcountTableOffset, recorded.entries * 8),
      place('the snapshot table', snapshotsOffset, snapshots.byteLength),
      ...(encryption === null ? [] : [place('the encryption header', encryption.offset, encryption.length)]),
      ...snapshots.entries
        // A longer one can't be; it would cover the file.
        .filter((snapshot) => snapshot.l1Entries <= MAX_L1_BYTES / 8)
        .map((snapshot) =>
          place(`the L1 table of snapshot ${snapshot.label}`, snapshot.l1Offset, snapshot.l1Entries * 8),
        ),
    ];
    for (let index = 0; index < recorded.entries; index++) {
      const offset = recorded.blockOffset(index);
      if (offset !== 0) this.#blocks.add(Math.floor(offset / image.clusterSize));
    }
  }

  /** What lies in the clusters that the L2 table at `offset` takes, by name; null when nothing else does. */
  ownerOf(offset: number): string | null {
    const start = offset - (offset % this.#clusterSize);
    const end = Math.ceil((offset + this.#clusterSize) / this.#clusterSize) * this.#clusterSize;
    const found = this.#places.find((place) => place.start < end && start < place.end);
    if (found !== undefined) return found.name;
    for (let at = start; at < end; at += this.#clusterSize) {
      if (this.#blocks.has(at / this.#clusterSize)) return 'a refcount block';
    }
    return null;
  }
}
