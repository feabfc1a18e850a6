/**
 * `length`, `alloc`, `map` and `info`: what there is to know of the open file.
 */
import type { BlockNode } from '../graph/block-node.js';
import { errorWords } from '../text/errno.js';
import { toNumber } from '../text/sizes.js';
import { openedNode, type IoCommand, type Outcome } from './command.js';
import { readSize } from './numbers.js';
import { units } from './report.js';
import { reportOn, reportText } from '../img/image-report.js';
import type { Session } from './session.js';
import { vmStateOffset } from '../../operations/snapshots/vm-state.js';

const SECTOR = 512;

export const lengthCommand: IoCommand = {
  name: 'length',
  shortName: 'l',
  summary: 'prints the size of the disk',
  run(session) {
    session.console.out(`${units(openedNode(session).size)}\n`);
    return 'ok';
  },
};

export const allocCommand: IoCommand = {
  name: 'alloc',
  shortName: 'a',
  atLeast: 1,
  atMost: 2,
  usage: 'offset [count]',
  summary: 'tells how much of a range is allocated',
  run(session, args) {
    const node = openedNode(session);
    const start = readSize(session, args[0]!);
    if (start === null) return 'failed';
    const count = args[1] === undefined ? BigInt(SECTOR) : readSize(session, args[1]);
    if (count === null) return 'failed';
    const offset = toNumber(start) ?? node.size;
    const inside = Math.min(toNumber(count) ?? node.size, Math.max(0, node.size - offset));
    return guarded(session, 'is_allocated', () => {
      let allocated = 0;
      for (const run of allocation(node, offset, inside)) if (run.allocated) allocated += run.length;
      session.console.out(`${allocated}/${inside} bytes allocated at offset ${units(Number(start))}\n`);
    });
  },
};

export const mapCommand: IoCommand = {
  name: 'map',
  usage: '',
  summary: 'prints which ranges are allocated',
  run(session) {
    const node = openedNode(session);
    return guarded(session, 'map', () => {
      for (const { offset, length, allocated } of allocation(node, 0, node.size)) {
        const state = allocated ? '    allocated' : 'not allocated';
        const size = `${units(length)} (0x${length.toString(16)}) bytes`;
        session.console.out(`${size} ${state} at offset ${units(offset)} (0x${offset.toString(16)})\n`);
      }
    });
  },
};

/** The longest runs of one kind. */
function* allocation(node: BlockNode, start: number, length: number) {
  const end = start + length;
  for (let at = start; at < end;) {
    const first = node.status(at, end - at);
    let run = first.length;
    while (at + run < end) {
      const next = node.status(at + run, end - at - run);
      if (next.allocated !== first.allocated) break;
      run += next.length;
    }
    yield { offset: at, length: run, allocated: first.allocated };
    at += run;
  }
}

function guarded(session: Session, what: string, work: () => void): Outcome {
  try {
    work();
    return 'ok';
  } catch (error) {
    session.console.out(`${what} failed: ${errorWords(error).words}\n`);
    return 'failed';
  }
}

export const infoCommand: IoCommand = {
  name: 'info',
  shortName: 'i',
  summary: 'prints what the image is',
  run(session) {
    const node = openedNode(session);
    session.console.out(`format name: ${node.driver}\n`);
    if (node.image === null) {
      // A protocol has two names, which are the same.
      if (node.file === null) session.console.out(`format name: ${node.driver}\n`);
      return node.driver === 'raw' ? 'ok' : 'failed';
    }
    session.console.out(`cluster size: ${units(node.image.clusterSize)}\n`);
    session.console.out(`vm state offset: ${units(vmStateOffset(node.image))}\n`);
    session.console.out(specificInformation(node));
    return 'ok';
  },
};

/** What qcow2-img says of an image ends with it. */
function specificInformation(node: BlockNode): string {
  const text = reportText(reportOn(node));
  return text.slice(text.indexOf('Format specific information:'));
}
