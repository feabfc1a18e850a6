/**
 * The base images on servers that one disk may stand on: those that its opener allows, each opened once and shared by whatever opens it
 * while the disk is open (creating an overlay looks at the base before the overlay is opened over it).
 */
import { Qcow2Error } from '../errors.js';
import { parsePinnedName, pinnedName } from '../network/base-identity.js';
import { checkProfile, type BootProfile } from '../network/boot-profile.js';
import { fetchProfile } from '../network/fetch-profile.js';
import { HttpStorage } from '../network/http-storage.js';
import type { PrefetchJob } from '../network/make-offline.js';
import type { BaseStatus, NetworkBase } from '../network/network-base.js';
import { checkAddress, openNetworkBase, type BaseAddress, type NetworkHost } from '../network/open-base.js';
import type { Storage } from '../storage/storage.js';

/** A base image on a server that a disk may stand on. */
export interface AllowedBase extends BaseAddress {
  /** What to fetch ahead of the guest: a boot profile, or where it lies. */
  readonly profile?: BootProfile | string;
}

export class NetworkBases {
  readonly #host: NetworkHost | null;
  readonly #allowed = new Map<string, AllowedBase>();
  /** By the name that an image records. */
  readonly #open = new Map<string, NetworkBase>();
  readonly #closing = new AbortController();

  /** @param host null where there is no network. @throws Qcow2Error `BAD_ARGUMENT` for an address that is none. */
  constructor(host: NetworkHost | null, allowed: readonly AllowedBase[]) {
    this.#host = host;
    for (const base of allowed) {
      checkAddress(base);
      if (typeof base.profile === 'object') checkProfile(base.profile, `the profile of ${base.url}`);
      this.#allowed.set(base.name ?? base.url, base);
    }
  }

  /** Whether an image may name this as its base. */
  allows(recorded: string): boolean {
    return this.#allowed.has(parsePinnedName(recorded).name);
  }

  /** Opens what an image names. Closing the storage leaves the base open, for `close()`. @throws Qcow2Error as `openNetworkBase`. */
  async open(recorded: string, signal?: AbortSignal): Promise<Storage> {
    const base = this.#open.get(recorded) ?? (await this.#openBase(recorded, signal));
    return new HttpStorage(base, { ownsBase: false });
  }

  /** The name for an overlay to record: with the version that is open, so that it never stands on another. */
  pinned(recorded: string): string {
    const base = this.#open.get(recorded);
    return base === undefined ? recorded : pinnedName(parsePinnedName(recorded).name, base.source.identity);
  }

  status(): BaseStatus[] {
    return this.#each().map((base) => base.status());
  }

  /** By name; the only one there is where none is given. @throws Qcow2Error `NOT_FOUND` for one that is not open. */
  find(name?: string): NetworkBase {
    const open = this.#each();
    const found = name === undefined && open.length === 1 ? open[0] : open.find((base) => base.name === name);
    if (found !== undefined) return found;
    const names = open.map((base) => JSON.stringify(base.name)).join(', ') || 'none';
    throw new Qcow2Error(
      'NOT_FOUND',
      `the disk stands on no base image ${JSON.stringify(name ?? '')} on a server; there are: ${names}`,
    );
  }

  /** Fetches all of all. @throws Qcow2Error as `NetworkBase.makeAvailableOffline`, `CLOSED` where the disk is closed meanwhile. */
  async makeAvailableOffline({ signal, onProgress }: PrefetchJob): Promise<void> {
    const closing = this.#closing.signal;
    const ended = signal === undefined ? closing : AbortSignal.any([signal, closing]);
    try {
      for (const base of this.#each()) await base.makeAvailableOffline({ signal: ended, onProgress });
    } catch (error) {
      if (!closing.aborted || signal?.aborted) throw error;
      throw new Qcow2Error('CLOSED', 'the disk was closed while its base images were fetched', { cause: error });
    }
  }

  /** Ends what fetches for later, so that what has come can be waited for. What a guest waits for still comes. */
  stopFetchingAhead(): void {
    this.#closing.abort();
  }

  /** Resolves when what has come so far is kept. */
  async whenKept(): Promise<void> {
    await Promise.all(this.#each().map((base) => base.whenKept()));
  }

  close(): void {
    this.#closing.abort();
    for (const base of this.#each()) base.close();
    this.#open.clear();
  }

  #each(): NetworkBase[] {
    return [...new Set(this.#open.values())];
  }

  async #openBase(recorded: string, signal: AbortSignal | undefined): Promise<NetworkBase> {
    const { name, identity } = parsePinnedName(recorded);
    const address = this.#allowed.get(name);
    if (address === undefined || this.#host === null) {
      throw new Qcow2Error('BACKING', `the image names the base ${JSON.stringify(name)}, and nothing here opens it`);
    }
    const base = await openNetworkBase(this.#host, address, { pin: identity, signal });
    this.#open.set(recorded, base);
    // The overlay that is made over it names it so.
    this.#open.set(pinnedName(name, base.source.identity), base);
    if (address.profile !== undefined) void this.#fetchAhead(base, address.profile, this.#host);
    return base;
  }

  /** A hint that can't be had, or is none, costs time and nothing else. */
  async #fetchAhead(base: NetworkBase, profile: BootProfile | string, host: NetworkHost): Promise<void> {
    const { signal } = this.#closing;
    try {
      if (typeof profile !== 'string') await base.prefetch(profile, { signal });
      else await base.prefetchBy(profile, () => fetchProfile(host.fetch, profile, signal), { signal });
    } catch {
      // Who reads what did not come is told why.
    }
  }
}
