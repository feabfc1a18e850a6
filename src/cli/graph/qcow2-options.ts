/**
 * Runtime options of a qcow2 node: QEMU's names and messages for the engine's `RuntimeOptions`.
 */
import type { RuntimeOptions } from '../../image/runtime-options.js';
import type { GuardedStructure, OverlapCheck, OverlapTemplate } from '../../metadata/overlap-options.js';
import { geometryOfHeader, type Header } from '../../format/header.js';
import { alignUp, divideUp } from '../../util/integers.js';
import { CliError } from '../text/messages.js';
import { numberOption } from '../text/option-list.js';
import type { NodeOptions } from './block-node.js';
import type { OptionBag } from './option-bag.js';

const TEMPLATES: readonly string[] = ['none', 'constant', 'cached', 'all'];

const STRUCTURES: readonly (readonly [option: string, structure: GuardedStructure])[] = [
  ['main-header', 'mainHeader'],
  ['active-l1', 'activeL1'],
  ['active-l2', 'activeL2'],
  ['refcount-table', 'refcountTable'],
  ['refcount-block', 'refcountBlock'],
  ['snapshot-table', 'snapshotTable'],
  ['inactive-l1', 'inactiveL1'],
  ['inactive-l2', 'inactiveL2'],
  ['bitmap-directory', 'bitmapDirectory'],
];

/** All of them. */
export const RUNTIME_OPTIONS: ReadonlySet<string> = new Set([
  'lazy-refcounts',
  'pass-discard-request',
  'pass-discard-snapshot',
  'pass-discard-other',
  'overlap-check',
  'overlap-check.template',
  ...STRUCTURES.map(([option]) => `overlap-check.${option}`),
  'cache-size',
  'l2-cache-size',
  'refcount-cache-size',
  'l2-cache-entry-size',
  'cache-clean-interval',
]);

const MAX_INT = 2n ** 31n - 1n;
const MAX_UINT = 2n ** 32n - 1n;
const DEFAULT_L2_CACHE = 32n * 1024n * 1024n;
/** The engine's memory has 32-bit addresses; no disk that is worked on here needs more. */
const MOST_CACHE = 256 * 1024 * 1024;
const SMALLEST_SLICE = 512n;
/** QEMU's slice where the cache does not cover the disk. */
const DEFAULT_SLICE = 4096n;

/** Takes the runtime options out of the bag. Throws `CliError` in QEMU's words. */
export function takeRuntimeOptions(bag: OptionBag, header: Header, defaults: { unmap: boolean }): RuntimeOptions {
  const taken = {
    lazy: bag.takeBool('lazy-refcounts'),
    request: bag.takeBool('pass-discard-request'),
    snapshot: bag.takeBool('pass-discard-snapshot'),
    other: bag.takeBool('pass-discard-other'),
    template: { short: bag.takeText('overlap-check'), long: bag.takeText('overlap-check.template') },
    switches: STRUCTURES.map(([option, structure]) => [structure, bag.takeBool(`overlap-check.${option}`)] as const),
    interval: bag.takeText('cache-clean-interval'),
  };
  const caches = takeCacheSizes(bag, header);
  const cacheCleanInterval = cleanInterval(taken.interval);
  if (taken.lazy === true && header.version === 2) {
    throw new CliError('Lazy refcounts require a qcow2 image with at least qemu 1.1 compatibility level');
  }
  return {
    ...caches,
    cacheCleanInterval,
    lazyRefcounts: taken.lazy,
    overlapCheck: overlapCheck(taken.template, taken.switches),
    discard: {
      request: taken.request ?? defaults.unmap,
      snapshot: taken.snapshot ?? true,
      other: taken.other ?? false,
    },
  };
}

function takeCacheSizes(bag: OptionBag, header: Header): RuntimeOptions {
  const total = bag.takeSize('cache-size');
  const l2 = bag.takeSize('l2-cache-size');
  const refcount = bag.takeSize('refcount-cache-size');
  const slice = bag.takeSize('l2-cache-entry-size');
  if (total !== undefined) {
    if (l2 !== undefined && refcount !== undefined) {
      throw new CliError('cache-size, l2-cache-size and refcount-cache-size may not be set at the same time');
    }
    if (l2 !== undefined && l2 > total) throw new CliError('l2-cache-size may not exceed cache-size');
    if (refcount !== undefined && refcount > total) throw new CliError('refcount-cache-size may not exceed cache-size');
  }
  checkSlices(header, { total, l2, refcount, slice });
  const bytes = (size: bigint | undefined) => (size === undefined ? undefined : Math.min(Number(size), MOST_CACHE));
  return {
    cacheSize: bytes(total),
    l2CacheSize: bytes(l2),
    refcountCacheSize: bytes(refcount),
    l2CacheEntrySize: bytes(slice),
  };
}

interface GivenSizes {
  readonly total: bigint | undefined;
  readonly l2: bigint | undefined;
  readonly refcount: bigint | undefined;
  readonly slice: bigint | undefined;
}

function checkSlices(header: Header, { total, l2, refcount, slice }: GivenSizes): void {
  const { clusterSize, l2EntryBytes } = geometryOfHeader(header);
  const useful = BigInt(alignUp(divideUp(header.size, clusterSize) * l2EntryBytes, clusterSize));
  const wanted = l2 ?? (total === undefined ? DEFAULT_L2_CACHE : total - (refcount ?? 0n));
  const cache = wanted < useful ? wanted : useful;
  const automatic = cache < useful && BigInt(clusterSize) > DEFAULT_SLICE ? DEFAULT_SLICE : BigInt(clusterSize);
  const entry = slice ?? automatic;
  if (entry < SMALLEST_SLICE || entry > BigInt(clusterSize) || (entry & (entry - 1n)) !== 0n) {
    throw new CliError(
      `L2 cache entry size must be a power of two between ${SMALLEST_SLICE} and the cluster size (${clusterSize})`,
    );
  }
  if (cache / entry > MAX_INT) throw new CliError('L2 cache size too big');
  if ((refcount ?? 0n) / BigInt(clusterSize) > MAX_INT) throw new CliError('Refcount cache size too big');
}

function cleanInterval(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const seconds = numberOption('cache-clean-interval', text);
  if (seconds > MAX_UINT) throw new CliError('Cache clean interval too big');
  return Number(seconds);
}

function overlapCheck(
  { short, long }: { readonly short: string | undefined; readonly long: string | undefined },
  switches: readonly (readonly [GuardedStructure, boolean | undefined])[],
): OverlapCheck {
  if (short !== undefined && long !== undefined && short !== long) {
    const values = `'overlap-check' ('${short}') and 'overlap-check.template' ('${long}')`;
    throw new CliError(`Conflicting values for qcow2 options ${values}`);
  }
  const template = short ?? long ?? 'cached';
  if (!TEMPLATES.includes(template)) {
    const allowed = `Allowed are any of the following: ${TEMPLATES.join(', ')}`;
    throw new CliError(`Unsupported value '${template}' for qcow2 option 'overlap-check'. ${allowed}`);
  }
  const given = Object.fromEntries(switches.filter(([, on]) => on !== undefined));
  return { template: template as OverlapTemplate, ...given };
}

/**
 * The options after a reopen that mentions `changes`: QEMU's rules. A new template does away with the old switches, a new size of
 * both caches with the old sizes of one, and new sizes of each with the old one of both.
 */
export function joinRuntimeOptions(old: NodeOptions, changes: NodeOptions): NodeOptions {
  const joined = new Map(old);
  if (changes.has('overlap-check') || changes.has('overlap-check.template')) {
    for (const key of old.keys()) if (key.startsWith('overlap-check')) joined.delete(key);
  }
  if (changes.has('cache-size')) for (const key of ['l2-cache-size', 'refcount-cache-size']) joined.delete(key);
  for (const [key, value] of changes) joined.set(key, value);
  const both = joined.has('l2-cache-size') && joined.has('refcount-cache-size');
  if (both && !changes.has('cache-size')) joined.delete('cache-size');
  return joined;
}
