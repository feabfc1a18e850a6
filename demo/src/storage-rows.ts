/** What takes room, in lines for people: the disks, the base images, and the rest. Pure. */
import type { StorageHealth, StoredBase } from 'qcow2-wasm/opfs';
import { diskNameOf } from './disk-names.js';
import { formatBytes } from './page.js';

interface Line {
  readonly name: string;
  readonly note: string;
  readonly bytes: number;
}

export interface BaseRow extends Line {
  readonly kind: 'base';
  readonly base: StoredBase;
  /** Whether nothing would miss it. */
  readonly isRemovable: boolean;
}

export type StorageRow = BaseRow | (Line & { readonly kind: 'disk' | 'other' });

export interface Knowledge {
  /** By the identity of a base, the disks that stand on it. */
  readonly users: ReadonlyMap<string, readonly string[]>;
  /** Of which file they are, and what of it is theirs alone; null where that is not known. */
  readonly snapshots: { readonly disk: string; readonly bytes: number } | null;
  /** The identities of bases that were cleared since the last visit. */
  readonly cleared: readonly string[];
}

export function storageRows({ disks, bases, other }: StorageHealth, knowledge: Knowledge): StorageRow[] {
  const rows: StorageRow[] = disks.map(({ name, bytes }) => ({
    kind: 'disk',
    name: diskNameOf(name) ?? name,
    bytes,
    note: diskNote(name, knowledge),
  }));
  for (const base of bases) rows.push(baseRow(base, knowledge));
  if (other !== null && other > 0) {
    rows.push({
      kind: 'other',
      name: 'everything else',
      note: 'this page, kept for visits offline; exports',
      bytes: other,
    });
  }
  return rows;
}

function diskNote(name: string, { snapshots }: Knowledge): string {
  const isKnown = snapshots !== null && snapshots.disk === name && snapshots.bytes > 0;
  return isKnown ? `disk, ${formatBytes(snapshots.bytes)} of it snapshots` : 'disk';
}

function baseRow(base: StoredBase, { users, cleared }: Knowledge): BaseRow {
  const standing = users.get(base.identity) ?? [];
  const isRemovable = standing.length === 0 && !base.inUse;
  const here =
    base.presentBytes === base.size
      ? 'all of it here'
      : `${formatBytes(base.presentBytes)} of ${formatBytes(base.size)} here`;
  const purpose = isRemovable ? ', no disk stands on it' : '';
  const again = cleared.includes(base.identity) ? '; the browser had cleared it, and it is fetched again' : '';
  const name = decodeURIComponent(new URL(base.url).pathname.split('/').at(-1) || base.url);
  return { kind: 'base', base, isRemovable, name, bytes: base.bytes, note: `base image, ${here}${purpose}${again}` };
}
