/** Every operation on a whole image that is crashed in `operations.test.ts`, and the image that it is made on. */
import type { Qcow2Image } from '../../src/index.js';
import { amendImage, type AmendOptions } from '../../src/operations/amend.js';
import { changeBackingFile } from '../../src/operations/change-backing.js';
import { makeEmpty } from '../../src/operations/make-empty.js';
import { resizeImage, type ResizeOptions } from '../../src/operations/resize.js';
import { runToEnd } from '../../src/util/steps.js';
import { readWhole } from '../support/disk-actions.js';
import { BACKING_NAME, DATA_NAME, OTHER_DATA_NAME } from './crash-judges.js';
import { SIZE, type ImageShape } from './operation-images.js';

export interface OperationScenario extends ImageShape {
  readonly title: string;
  /** Made once more after each crash; the disk is then what it is after the first time. */
  readonly operation: (image: Qcow2Image) => void;
  /** After a crash parts of the disk may be as before, others as after. */
  readonly mixed?: boolean;
}

const shrink = (image: Qcow2Image): void => runToEnd(resizeImage(image, { size: 70_144, shrink: true }));

/** Preallocation is refused where nothing grows. */
function grow(size: number, preallocation: ResizeOptions['preallocation'] = 'off'): (image: Qcow2Image) => void {
  return (image) => {
    if (image.size < size) runToEnd(resizeImage(image, { size, preallocation }));
  };
}

function amend(...changes: readonly AmendOptions[]): (image: Qcow2Image) => void {
  return (image) => {
    for (const change of changes) runToEnd(amendImage(image, change));
  };
}

const widths = (...bits: readonly number[]) => amend(...bits.map((refcountBits) => ({ refcountBits })));
const empty = (image: Qcow2Image): void => runToEnd(makeEmpty(image));
const downAndUp = amend({ version: 2 }, { version: 3 });

const small = { clusterSize: 512 } as const;
const medium = { clusterSize: 4096 } as const;
const extended = { clusterSize: 16384, extendedL2: true } as const;

const SHRINKING: readonly OperationScenario[] = [
  { title: 'shrinking', create: small, operation: shrink },
  {
    title: 'shrinking with a snapshot, refcounts of 64 bits',
    create: { ...small, refcountBits: 64 },
    snapshot: true,
    operation: shrink,
  },
  {
    title: 'shrinking with zstd clusters',
    create: { ...medium, compressionType: 'zstd' },
    compressed: true,
    operation: shrink,
  },
  { title: 'shrinking with extended L2 entries', create: extended, backing: true, operation: shrink },
  { title: 'shrinking with lazy refcounts', create: { ...small, lazyRefcounts: true }, operation: shrink },
  { title: 'shrinking with a data file', create: medium, dataFile: 'plain', operation: shrink },
  { title: 'shrinking with a raw data file', create: medium, dataFile: 'raw', operation: shrink },
];

const GROWING: readonly OperationScenario[] = [
  { title: 'growing over a longer backing file', create: small, backing: true, operation: grow(2 * SIZE) },
  {
    title: 'growing in version 2 over a longer backing file',
    create: { ...small, version: 2 },
    backing: true,
    operation: grow(2 * SIZE),
  },
  { title: 'growing until L1 and refcount table move', create: small, operation: grow(6 * SIZE, 'metadata') },
  { title: 'growing with preallocation metadata', create: medium, operation: grow(2 * SIZE, 'metadata') },
  { title: 'growing with preallocation falloc', create: medium, operation: grow(2 * SIZE + 512, 'falloc') },
  { title: 'growing with preallocation full', create: medium, operation: grow(2 * SIZE, 'full') },
  {
    title: 'growing with extended L2 entries and preallocation over a backing file',
    create: extended,
    backing: true,
    operation: grow(2 * SIZE, 'metadata'),
  },
  { title: 'growing a data file', create: medium, dataFile: 'plain', backing: true, operation: grow(2 * SIZE) },
  {
    title: 'growing a data file with preallocation',
    create: small,
    dataFile: 'plain',
    operation: grow(2 * SIZE, 'full'),
  },
  { title: 'growing a raw data file', create: medium, dataFile: 'raw', operation: grow(2 * SIZE) },
  {
    title: 'shrinking and growing again with lazy refcounts',
    create: { ...medium, lazyRefcounts: true },
    operation: (image) => {
      shrink(image);
      image.write(0, readWhole(image));
      shrink(image);
    },
  },
];

const EMPTYING: readonly OperationScenario[] = [
  { title: 'emptying the fast way', create: medium, backing: true, operation: empty, mixed: true },
  {
    title: 'emptying the fast way, lazy, with compressed clusters',
    create: { ...small, lazyRefcounts: true },
    compressed: true,
    operation: empty,
    mixed: true,
  },
  {
    title: 'emptying the fast way where guest data lies at the start of the file',
    create: small,
    backing: true,
    moved: true,
    operation: empty,
    mixed: true,
  },
  {
    title: 'emptying with extended L2 entries',
    create: extended,
    backing: true,
    operation: empty,
    mixed: true,
  },
  {
    title: 'emptying table by table',
    create: { ...small, version: 2 },
    backing: true,
    operation: empty,
    mixed: true,
  },
  { title: 'emptying beside a snapshot', create: medium, snapshot: true, operation: empty, mixed: true },
  { title: 'emptying a data file', create: medium, dataFile: 'plain', backing: true, operation: empty, mixed: true },
  { title: 'emptying a raw data file', create: small, dataFile: 'raw', operation: empty, mixed: true },
];

const AMENDING: readonly OperationScenario[] = [
  { title: 'refcount widths 64, 1, 8', create: small, operation: widths(64, 1, 8) },
  { title: 'refcount widths 2, 32, 4, 16', create: small, operation: widths(2, 32, 4, 16) },
  {
    title: 'refcount widths beside a snapshot and compressed clusters',
    create: { ...small, lazyRefcounts: true },
    snapshot: true,
    compressed: true,
    operation: widths(32, 8, 64, 16),
  },
  { title: 'refcount widths with extended L2 entries', create: extended, operation: widths(1, 64, 2) },
  { title: 'refcount widths with a data file', create: small, dataFile: 'plain', operation: widths(64, 1) },
  {
    title: 'version 2 and back, with a snapshot',
    create: medium,
    snapshot: true,
    backing: true,
    operation: downAndUp,
  },
  {
    title: 'version 2 and back, lazy, with compressed clusters',
    create: { ...small, lazyRefcounts: true },
    compressed: true,
    operation: downAndUp,
  },
  {
    title: 'lazy refcounts on and off',
    create: medium,
    operation: (image) => {
      runToEnd(amendImage(image, { lazyRefcounts: true }));
      // The same bytes again, in other clusters where they were zeroes: the refcounts change, the disk does not.
      image.write(70_000, readWhole(image).subarray(70_000, 120_000));
      runToEnd(amendImage(image, { lazyRefcounts: false }));
    },
  },
  {
    title: 'several options at once',
    create: { ...small, version: 2 },
    operation: amend({
      ...{ version: 3, refcountBits: 64, lazyRefcounts: true, size: 2 * SIZE },
      backing: { name: BACKING_NAME, format: 'raw' },
    }),
  },
  {
    title: 'another name for the data file, and raw no more',
    create: medium,
    dataFile: 'raw',
    operation: amend({ dataFileName: OTHER_DATA_NAME }, { dataFileRaw: false }, { dataFileName: DATA_NAME }),
  },
];

const OTHERS: readonly OperationScenario[] = [
  {
    title: 'names that take the header over a sector',
    create: { clusterSize: 65536 },
    operation: (image) => {
      // Long names of a file that is there: qemu-img wants to open it.
      for (const dots of [300, 10, 500, 200]) {
        changeBackingFile(image, { name: `${'./'.repeat(dots)}${BACKING_NAME}`, format: 'raw' });
      }
      changeBackingFile(image, null);
    },
  },
  {
    title: 'reopening with other options, read-only and back, and letting go',
    create: medium,
    compressed: true,
    operation: (image) => {
      image.write(0, readWhole(image).subarray(0, 100_000));
      image.reopen({ lazyRefcounts: true });
      image.write(100_000, readWhole(image).subarray(100_000, 300_000));
      image.reopen({ lazyRefcounts: false, l2CacheSize: 8192 });
      image.write(200_000, readWhole(image).subarray(200_000, 300_000));
      image.reopen({ readOnly: true });
      image.reopen({ readOnly: false });
      image.inactivate();
      image.invalidate();
    },
  },
];

const ENCRYPTED: readonly OperationScenario[] = [
  { title: 'shrinking with LUKS', create: medium, encryption: 'luks', operation: shrink },
  {
    title: 'growing with LUKS and preallocation',
    create: medium,
    encryption: 'luks',
    operation: grow(2 * SIZE, 'metadata'),
  },
  { title: 'emptying with LUKS', create: medium, encryption: 'luks', backing: true, operation: empty, mixed: true },
  { title: 'emptying with legacy AES, the fast way', create: medium, encryption: 'aes', operation: empty, mixed: true },
  { title: 'refcount widths with LUKS', create: medium, encryption: 'luks', operation: widths(64, 1, 8) },
  {
    title: 'version 2 and back with legacy AES',
    create: medium,
    encryption: 'aes',
    backing: true,
    operation: downAndUp,
  },
];

export const OPERATION_SCENARIOS: readonly OperationScenario[] = [
  ...SHRINKING,
  ...GROWING,
  ...EMPTYING,
  ...AMENDING,
  ...OTHERS,
  ...ENCRYPTED,
];
