/** What a check finds and repairs, in QEMU's words: a line of stderr for each. */
import type { CheckEvent, Finding, FindingFacts } from '../../operations/check/check-image.js';
import type { Errno } from './errno.js';

export function checkLine(event: CheckEvent): string {
  if (event.event === 'rebuild') return 'Rebuilding refcount structure';
  const { finding } = event;
  return finding.facts === undefined ? plainLine(finding) : factsLine(event.event === 'repaired', finding.facts);
}

/** QEMU has no one line for it, or does not look. */
function plainLine({ message }: Finding): string {
  return `ERROR ${message}`;
}

function factsLine(repaired: boolean, facts: FindingFacts): string {
  const start = repaired ? 'Repairing' : 'ERROR';
  switch (facts.fact) {
    case 'refcount': {
      const leaked = facts.recorded > facts.counted;
      const word = leaked && !repaired ? 'Leaked' : start;
      return `${word} cluster ${facts.cluster} refcount=${facts.recorded} reference=${facts.counted}`;
    }
    case 'overflow':
      return `ERROR: overflow cluster offset=0x${hex(facts.host)}\n${OVERFLOW_ADVICE}`;
    case 'past-end': {
      const what = 'counting reference for region exceeding the end of the file by one cluster or more';
      return `ERROR: ${what}: offset 0x${hex(facts.host)} size 0x${hex(facts.length)}`;
    }
    case 'copied-l1': {
      const entry = `l1_index=${facts.index} l1_entry=${hex(facts.entry)}`;
      return `${start} OFLAG_COPIED L2 cluster: ${entry} refcount=${facts.refcount}`;
    }
    case 'copied-l2':
      return `${start} OFLAG_COPIED data cluster: l2_entry=${hex(facts.entry)} refcount=${facts.refcount}`;
    case 'misaligned-l2-table':
      return `ERROR l2_offset=${hex(facts.host)}: Table is not cluster aligned; L1 entry corrupted`;
    case 'misaligned-cluster': {
      const kind = facts.holdsData ? 'Data' : 'Preallocated';
      const place = facts.holdsData ? 'Data cluster' : `${kind} cluster`;
      return `${start} offset=${hex(facts.host)}: ${place} is not properly aligned; L2 entry corrupted.`;
    }
    case 'refcount-block':
      return blockLine(start, facts);
    default:
      return snapshotLine(repaired, facts);
  }
}

const OVERFLOW_ADVICE =
  'Use qemu-img amend to increase the refcount entry width or qemu-img convert to create a clean copy if the image cannot be opened for writing';

function blockLine(start: string, { index, flaw, counted }: Extract<FindingFacts, { fact: 'refcount-block' }>): string {
  switch (flaw) {
    case 'reserved-bits':
      return `ERROR refcount table entry ${index} has reserved bits set`;
    case 'misaligned':
      return `ERROR refcount block ${index} is not cluster aligned; refcount table entry corrupted`;
    case 'outside':
      return `${start} refcount block ${index} is outside image`;
    case 'shared':
      return `ERROR refcount block ${index} refcount=${counted}`;
  }
}

type SnapshotFact = 'snapshot-l1' | 'snapshot-extra' | 'snapshot-incomplete' | 'snapshots-beyond' | 'snapshots-unread';
type SnapshotFacts = Extract<FindingFacts, { fact: SnapshotFact }>;
type UnreadFacts = Extract<FindingFacts, { fact: 'snapshots-unread' }>;

function snapshotLine(repaired: boolean, facts: SnapshotFacts): string {
  switch (facts.fact) {
    case 'snapshot-l1': {
      const what = facts.flaw === 'size' ? 'too large' : 'not cluster aligned';
      const field = `l1_${facts.flaw}=0x${hex(facts.value)}`;
      return `ERROR snapshot ${facts.label} ${field}: L1 table is ${what}; snapshot table entry corrupted`;
    }
    case 'snapshot-extra': {
      const what = `too much extra metadata in snapshot table entry ${facts.index} (${facts.bytes} > ${facts.limit})`;
      return repaired ? `Discarding ${what}` : `ERROR ${what}`;
    }
    case 'snapshot-incomplete':
      return `${repaired ? 'Repairing' : 'ERROR'} snapshot table entry ${facts.index} is incomplete`;
    case 'snapshots-beyond': {
      const what = `${facts.count} overhanging snapshots${facts.tooMany ? '' : ' (snapshot table is too big)'}`;
      return repaired ? `Discarding ${what}` : `ERROR ${what}`;
    }
    case 'snapshots-unread': {
      const { message, hint } = unreadWords(facts);
      return `ERROR ${message}${hint === '' ? '' : `\n${hint}`}`;
    }
  }
}

/** Why QEMU does not follow a snapshot table: the message, what could be done, and the error that ends the check. */
export function unreadWords(facts: UnreadFacts): {
  readonly message: string;
  readonly hint: string;
  readonly errno: Errno;
} {
  const remedy = 'with qemu-img check -r all';
  switch (facts.flaw) {
    case 'place':
      return { message: 'snapshot table offset invalid', hint: '', errno: 'EINVAL' };
    case 'too-many': {
      const hint = `You can force-remove all ${facts.beyond} overhanging snapshots ${remedy}`;
      return { message: 'snapshot table too large', hint, errno: 'EFBIG' };
    }
    case 'extra-data': {
      const message = `Too much extra metadata in snapshot table entry ${facts.index}`;
      return { message: UNREAD + message, hint: `You can force-remove this extra metadata ${remedy}`, errno: 'EFBIG' };
    }
    case 'too-long': {
      const hint = `You can force-remove all ${facts.beyond} overhanging snapshots ${remedy}`;
      return { message: `${UNREAD}Snapshot table is too big`, hint, errno: 'EFBIG' };
    }
  }
}

const UNREAD = 'failed to read the snapshot table: ';

function hex(value: number | bigint): string {
  return value.toString(16);
}
