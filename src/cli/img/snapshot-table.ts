/** The table of snapshots that `snapshot -l` and `info` print, in the columns of QEMU. */
import type { SnapshotInfo } from '../../operations/snapshots/snapshot-info.js';
import { humanSize } from '../text/sizes.js';

export function snapshotTable(snapshots: readonly SnapshotInfo[]): string {
  const titles = ['ID', 'TAG', 'VM SIZE', 'DATE', 'VM CLOCK', 'ICOUNT'] as const;
  const heading =
    titles[0].padEnd(10) +
    titles[1].padEnd(17) +
    titles[2].padStart(8) +
    titles[3].padStart(20) +
    titles[4].padStart(13) +
    titles[5].padStart(11);
  return ['Snapshot list:', heading, ...snapshots.map(lineOf)].map((line) => `${line}\n`).join('');
}

function lineOf({ id, name, vmStateBytes, date, vmClock, instructionCount }: SnapshotInfo): string {
  const start = `${upToNul(id).padEnd(9)} ${upToNul(name).padEnd(16)} ${humanSize(vmStateBytes).padStart(8)}`;
  const times = localTime(date.seconds).padStart(20) + clockText(vmClock).padStart(13);
  return start + times + String(instructionCount ?? '').padStart(11);
}

/** As a C program has it. */
function upToNul(text: string): string {
  const end = text.indexOf('\0');
  return end < 0 ? text : text.slice(0, end);
}

/** In the time zone of whoever looks. */
function localTime(seconds: number): string {
  const date = new Date(seconds * 1000);
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

function clockText(nanoseconds: bigint): string {
  const milliseconds = nanoseconds / 1_000_000n;
  const two = (value: bigint): string => String(value).padStart(2, '0');
  const seconds = milliseconds / 1000n;
  const time = `${two(seconds / 3600n)}:${two((seconds / 60n) % 60n)}:${two(seconds % 60n)}`;
  return `${time}.${String(milliseconds % 1000n).padStart(3, '0')}`;
}
