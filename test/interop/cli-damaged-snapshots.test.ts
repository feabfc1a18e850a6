/**
 * Damaged snapshots, by qcow2-img and by qemu-img: the same command on the same file exits with the same code and says the same,
 * and a repair by either leaves a file that both find nothing in.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { img, inFolder, type Output } from '../cli/img/run-img.js';
import { Qcow2Bytes } from '../support/qcow2-bytes.js';
import { expectCleanCheck, qemuCreate, qemuImg, qemuIo } from './qemu.js';

interface Damage {
  readonly title: string;
  readonly make: (file: Qcow2Bytes) => void;
  /** Command lines; `FILE` is the image, `NEW` a file that is not there. */
  readonly lines: readonly string[];
}

/** Those that open the image to use it, and the check that does not repair. */
const READING = ['info FILE', 'snapshot -l FILE', 'map FILE', 'check FILE', 'check -r leaks FILE'];
const USING = [
  'check FILE',
  'convert -l one -O qcow2 FILE NEW',
  'amend -o compat=0.10 FILE',
  'snapshot -a one FILE',
  'snapshot -d one FILE',
];

/** The entry of the second snapshot, behind that of the first. */
const SECOND = 72;

const DAMAGES: readonly Damage[] = [
  {
    title: 'too much extra data',
    make: (file) => file.setU32(file.snapshotsOffset + SECOND + 36, 2000),
    lines: [...READING, 'check -r all FILE', 'check FILE'],
  },
  {
    title: 'more entries than there may be',
    make: (file) => file.setU32(60, 65_540),
    lines: READING,
  },
  {
    title: 'a table off a cluster',
    make: (file) => file.setBits(64, BigInt(file.snapshotsOffset + 512)),
    lines: [...READING, 'check -r all FILE'],
  },
  {
    title: 'entries without the extra data of version 3',
    make: (file) => file.setU32(file.snapshotsOffset + 36, 8),
    lines: ['check FILE'],
  },
  {
    title: 'as many entries as there may be, which the file does not hold',
    make: (file) => {
      file.setBits(64, 1n << 30n);
      file.setU32(60, 65_536);
    },
    lines: ['snapshot -c three FILE', 'map FILE'],
  },
  {
    title: 'an L1 table off a cluster',
    make: (file) => file.setBits(file.snapshotsOffset, 0x40_0200n),
    lines: USING,
  },
  {
    title: 'an L1 table of 2 GiB',
    make: (file) => file.setU32(file.snapshotsOffset + 8, 0x1000_0000),
    lines: USING,
  },
  {
    title: 'a refcount of 2^64 - 1',
    make: (file) => file.setBits(file.refcountBlock(0) + (file.hostOf(0) / 65_536) * 8, 2n ** 64n - 1n),
    lines: ['check FILE', 'amend -o refcount_bits=16 FILE', 'check -r all FILE', 'check FILE'],
  },
];

function makeImage(path: string, make: Damage['make']): void {
  qemuCreate(path, { size: 64 * 2 ** 20, options: { refcount_bits: 64 } });
  qemuIo(path, ['write -P 1 0 100k']);
  qemuImg('snapshot', '-c', 'one', path);
  qemuImg('snapshot', '-c', 'two', path);
  const file = new Qcow2Bytes(readFileSync(path));
  make(file);
  writeFileSync(path, file.bytes);
}

function byQemu(args: readonly string[]): Output {
  const { status, stdout, stderr } = spawnSync('qemu-img', args, { encoding: 'utf8' });
  return { code: status ?? -1, out: stdout, err: stderr };
}

/** Without what differs from file to file: its name, and how much room it takes. */
function comparable({ code, out, err }: Output, path: string): Output {
  const plain = (text: string) => text.replaceAll(path, 'FILE').replace(/^disk size: .*$/m, '');
  return { code, out: plain(out), err: plain(err) };
}

describe('qcow2-img says what qemu-img says of', () => {
  for (const { title, make, lines } of DAMAGES) {
    it(title, () =>
      inFolder(async (path) => {
        const [theirs, ours] = [path('theirs'), path('ours')];
        makeImage(theirs, make);
        copyFileSync(theirs, ours);
        for (const line of lines) {
          const args = (file: string) =>
            line.split(' ').map((word) => word.replace('FILE', file).replace('NEW', path('new')));
          const wanted = comparable(byQemu(args(theirs)), theirs);
          expect(comparable(await img(...args(ours)), ours), line).toEqual(wanted);
        }
        if (!lines.includes('check -r all FILE') || byQemu(['check', theirs]).code !== 0) return;
        expectCleanCheck(ours, 'after our repair');
        expect((await img('check', theirs)).code).toBe(0);
      }),
    );
  }
});
