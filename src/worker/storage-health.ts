/**
 * How much a site has stored, of what it may, and whether the browser may clear it by itself. A browser that is short of room clears sites
 * that it has promised nothing, all of a site at once and without a word.
 */
import type { StoredBase } from '../network/stored-bases.js';
import type { WorkerClient } from './client.js';

/** All sizes in bytes. */
export interface StorageHealth {
  /** Whether the browser has promised not to clear the storage of this site by itself; null where it does not say. */
  readonly persisted: boolean | null;
  /** What the site has stored, in OPFS and elsewhere, as the browser estimates it; null where it does not say. */
  readonly usage: number | null;
  /** What it may store, as the browser estimates it: Chromium says 10 GiB more than is used, whatever the truth. Null where it does not say. */
  readonly quota: number | null;
  /** The files of the folder, by name. */
  readonly disks: readonly { readonly name: string; readonly bytes: number }[];
  /** What is kept of base images from servers, for all disks of the site. The one opened last comes first. */
  readonly bases: readonly StoredBase[];
  /** What else `usage` counts: other folders, files that are just being written, what a service worker keeps; null where it is not known. */
  readonly other: number | null;
}

/**
 * - `kept`: the browser does not clear the storage of this site by itself. The visitor still can.
 * - `refused`: it may. Some browsers ask the visitor, some judge by how often the site is used, and may think better of it later.
 * - `unsupported`: it makes no such promise.
 */
export type KeptStorage = 'kept' | 'refused' | 'unsupported';

/** @throws Qcow2Error `IO`. */
export async function measureStorage(client: WorkerClient, directory: string): Promise<StorageHealth> {
  const files = await client.call({ kind: 'list', directory });
  const bases = await client.call({ kind: 'listBases' });
  const { usage = null, quota = null } = await estimate();
  const disks = files.map(({ name, size }) => ({ name, bytes: size }));
  const known = [...disks, ...bases].reduce((sum, { bytes }) => sum + bytes, 0);
  // An estimate may be older than what was just counted.
  const other = usage === null ? null : Math.max(0, usage - known);
  return { persisted: await persisted(), usage, quota, disks, bases, other };
}

/** Asks the browser not to clear the storage of this site by itself. It may ask the visitor, so call it when they have clicked something. */
export async function keepStorage(): Promise<KeptStorage> {
  if (typeof navigator.storage?.persist !== 'function') return 'unsupported';
  try {
    return (await navigator.storage.persist()) ? 'kept' : 'refused';
  } catch {
    return 'refused';
  }
}

/** What a browser that does not answer says: nothing. */
async function estimate(): Promise<StorageEstimate> {
  try {
    return (await navigator.storage.estimate?.()) ?? {};
  } catch {
    return {};
  }
}

async function persisted(): Promise<boolean | null> {
  try {
    return (await navigator.storage.persisted?.()) ?? null;
  } catch {
    return null;
  }
}
