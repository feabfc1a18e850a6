/**
 * Reference sink: takes the references that a scan finds, counts them by cluster, and keeps what it has to complain of.
 *
 * A reference may reach into the cluster that the end of the file cuts. One that reaches further names nothing: it is a
 * corruption and not counted, but its clusters are remembered, so that a repair does not put a table there: the file
 * would grow over it, and the guest would find the table in its disk.
 */
import { AvoidedClusters } from './avoided-clusters.js';
import { divideUp, hex } from '../util/integers.js';
import { emptyTally, type FindingFacts, type FindingKind, type Findings } from './check-findings.js';
import type { ImageUnderCheck } from './image-under-check.js';
import type { ReferenceCounts } from './reference-counts.js';

export class ReferenceSink {
  readonly tally = emptyTally();
  readonly counts: ReferenceCounts;
  /** Clusters that nothing may be allocated at, although nothing counts them. */
  readonly avoid = new AvoidedClusters();
  readonly #image: ImageUnderCheck;
  readonly #findings: Findings;
  readonly #fileSize: number;

  constructor(image: ImageUnderCheck, counts: ReferenceCounts, findings: Findings) {
    this.#image = image;
    this.counts = counts;
    this.#findings = findings;
    this.#fileSize = image.storage.size;
  }

  /** Counts the clusters that `length` bytes at `host` touch. `what` says what lies there, for a message. */
  add(host: number, length: number, what: () => string): void {
    if (length <= 0) return;
    const { clusterSize } = this.#image;
    const first = Math.floor(host / clusterSize);
    const end = divideUp(host + length, clusterSize);
    if (host + length - this.#fileSize >= clusterSize) {
      this.avoid.add(first, end, this.#image.fileClusters);
      const message = () => {
        const where = `lies at ${hex(host)} to ${hex(host + length)}`;
        return `${what()} ${where}; the file ends at ${hex(this.#fileSize)}`;
      };
      this.corruption('past-end', host, message, { fact: 'past-end', host, length });
      return;
    }
    for (let cluster = first; cluster < end; cluster++) this.addCluster(cluster, what);
  }

  /** Counts one cluster that is known to lie in the file. */
  addCluster(cluster: number, what: () => string): void {
    if (this.counts.increment(cluster)) return;
    const { maxRefcount, refcountBits } = this.#image.geometry;
    const host = cluster * this.#image.clusterSize;
    const message = () => {
      const limit = `refcounts of ${refcountBits} bits stop at ${maxRefcount}`;
      return `${what()} is named more often than can be counted; ${limit}`;
    };
    this.corruption('refcount', host, message, { fact: 'overflow', host });
  }

  corruption(kind: FindingKind, host: number, message: () => string, facts?: FindingFacts): void {
    this.tally.corruptions++;
    this.#findings.add(kind, host, message, facts);
  }

  corruptionFixed(kind: FindingKind, host: number, message: () => string, facts?: FindingFacts): void {
    this.tally.corruptionsFixed++;
    this.#findings.addRepaired(kind, host, message, facts);
  }

  checkError(host: number, message: () => string): void {
    this.tally.checkErrors++;
    this.#findings.add('not-checked', host, message);
  }
}
