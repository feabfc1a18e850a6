/**
 * Notes of corruption: what the engine finds while an image is in use, as QEMU's driver says it on stderr.
 */
import type { Header } from '../../format/header.js';
import { geometryOfHeader } from '../../format/header.js';
import type { CorruptionEvent, CorruptionFacts } from '../../metadata/corruption.js';
import { NEW_L2_TABLE } from '../../metadata/l2-tables.js';
import type { GuardedStructure } from '../../metadata/overlap-options.js';
import { NEW_REFCOUNT_BLOCK } from '../../metadata/refcounts.js';
import { hex } from '../../util/integers.js';
import type { Console } from '../text/messages.js';

/** QEMU's names. The LUKS header is not guarded there. */
const STRUCTURES: Readonly<Record<GuardedStructure | 'encryption', string>> = {
  mainHeader: 'qcow2_header',
  activeL1: 'active L1 table',
  activeL2: 'active L2 table',
  refcountTable: 'refcount table',
  refcountBlock: 'refcount block',
  snapshotTable: 'snapshot table',
  inactiveL1: 'inactive L1 table',
  inactiveL2: 'inactive L2 table',
  bitmapDirectory: 'bitmap directory',
  encryption: 'encryption header',
};

/** What an allocation at offset 0, where the header lies, would have been for. */
const ALLOCATED: ReadonlyMap<string, string> = new Map([
  [NEW_L2_TABLE, 'L2 table'],
  [NEW_REFCOUNT_BLOCK, 'refcount block'],
]);

export class CorruptionNotes {
  readonly #console: Console;
  readonly #header: Header;
  #fatal = false;

  constructor(console: Console, header: Header) {
    this.#console = console;
    this.#header = header;
  }

  /** The image can't be used any more. */
  get fatal(): boolean {
    return this.#fatal;
  }

  tell(event: CorruptionEvent): void {
    this.#fatal ||= event.fatal;
    const what = event.facts === undefined ? event.message : this.#words(event.facts, event.offset);
    this.#console.err(
      event.fatal
        ? `qcow2: Marking image as corrupt: ${what}; further corruption events will be suppressed\n`
        : `qcow2: Image is corrupt: ${what}; further non-fatal corruption events will be suppressed\n`,
    );
  }

  #words(facts: CorruptionFacts, offset: number | undefined): string {
    switch (facts.fact) {
      case 'overlap': {
        const allocated = offset === 0 ? ALLOCATED.get(facts.writing) : undefined;
        if (allocated !== undefined) return `Preventing invalid allocation of ${allocated} at offset 0`;
        return `Preventing invalid write on metadata (overlaps with ${STRUCTURES[facts.structure]})`;
      }
      case 'misaligned-table': {
        const isL1 = facts.table.includes('L1');
        const [table, index] = isL1 ? ['L2 table', 'L1 index'] : ['Refblock', 'reftable index'];
        return `${table} offset ${hex(facts.host)} unaligned (${index}: ${hexIndex(facts.index)})`;
      }
      case 'misaligned-cluster': {
        const { clusterSize, l2Entries } = geometryOfHeader(this.#header);
        const index = Math.floor(facts.guest / clusterSize) % l2Entries;
        return `Cluster allocation offset ${hex(facts.host)} unaligned (L2 index: ${hexIndex(index)})`;
      }
    }
  }
}

/** C's `%#x`: without the prefix for 0. */
function hexIndex(value: number): string {
  return value === 0 ? '0' : hex(value);
}
