/**
 * Next counts: the refcounts as they are to be once some changes have been made, and what is against them. In a good image no
 * count falls below the references that are left; where one would, something that is in use would be handed out.
 */
import type { HostOffset } from '../disk.js';
import { Qcow2Error } from '../errors.js';
import { hex } from '../util/integers.js';
import type { ChangeableTables } from './changeable-tables.js';
import type { CountChanges } from './count-changes.js';

/** A count would not fit the width of the refcounts. */
export class RefcountTooHigh extends Qcow2Error {
  constructor(message: string) {
    super('LIMIT', message);
  }
}

/** Throws `CORRUPT`. */
export function refuseFree(host: HostOffset): never {
  const what = `the cluster at ${hex(host)} would be free and is still in use`;
  throw new Qcow2Error('CORRUPT', `${what}; the image needs to be checked`);
}

export class NextCounts {
  readonly #tables: ChangeableTables;
  readonly #changes: CountChanges;

  /** `changes` may grow meanwhile. */
  constructor(tables: ChangeableTables, changes: CountChanges) {
    this.#tables = tables;
    this.#changes = changes;
  }

  /** The count to be of the cluster at `host`. */
  of(host: HostOffset): number {
    return this.ofCluster(host / this.#tables.geometry.clusterSize);
  }

  ofCluster(cluster: number): number {
    return this.#tables.writable.refcounts.get(cluster) + this.#changes.get(cluster);
  }

  /** The count to be of what the active disk will name. With wrong counts it could be free, and be lost. Throws `CORRUPT`. */
  inUse(host: HostOffset): number {
    const count = this.of(host);
    if (count <= 0) refuseFree(host);
    return count;
  }

  /** Throws `CORRUPT`, or `LIMIT` for a count that would not fit its width. */
  checkAll(): void {
    const { refcounts } = this.#tables.writable;
    this.#changes.forEach((cluster, change) => this.check(cluster, refcounts.get(cluster), change));
  }

  /** The same for one cluster, whose count is `count`. What changes is named, so it is counted in a good image. */
  check(cluster: number, count: number, change: number): void {
    const next = count + change;
    if (count === 0 || next < 0 || next > this.#tables.geometry.maxRefcount) this.#refuse(cluster, count, change);
  }

  #refuse(cluster: number, count: number, change: number): never {
    const { clusterSize, maxRefcount, refcountBits } = this.#tables.geometry;
    const exact = Number.isSafeInteger(count) ? count : this.#tables.writable.refcounts.exact(cluster);
    const where = `the cluster at ${hex(cluster * clusterSize)} has refcount ${exact}`;
    if (count === 0 || count + change < 0) {
      throw new Qcow2Error('CORRUPT', `${where}, and more references than that; the image needs to be checked`);
    }
    const limit = `with ${refcountBits} bits it can't exceed ${maxRefcount}`;
    throw new RefcountTooHigh(`${where} and would have ${BigInt(exact) + BigInt(change)}; ${limit}`);
  }
}
