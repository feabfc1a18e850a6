/**
 * Which structures of an image are guarded against being written over: QEMU's `overlap-check`, a template and a switch for
 * each structure on top of it.
 *
 *   constant   main header, active L1, refcount table, snapshot table, bitmap directory: one range each
 *   cached     and active L2, refcount blocks, inactive L1: known from what is in memory anyway. The default
 *   all        and inactive L2: the L1 tables of all snapshots have to be read
 */
import { Qcow2Error } from '../errors.js';

export const GUARDED_STRUCTURES = [
  'mainHeader',
  'activeL1',
  'activeL2',
  'refcountTable',
  'refcountBlock',
  'snapshotTable',
  'inactiveL1',
  'inactiveL2',
  'bitmapDirectory',
] as const;

export type GuardedStructure = (typeof GUARDED_STRUCTURES)[number];
export type OverlapTemplate = 'none' | 'constant' | 'cached' | 'all';

/** `template` is `cached` where it is left out. */
export type OverlapCheck =
  | OverlapTemplate
  | ({ readonly template?: OverlapTemplate | undefined } & {
      readonly [Name in GuardedStructure]?: boolean | undefined;
    });

const CONSTANT: readonly GuardedStructure[] = [
  'mainHeader',
  'activeL1',
  'refcountTable',
  'snapshotTable',
  'bitmapDirectory',
];
const CACHED: readonly GuardedStructure[] = [...CONSTANT, 'activeL2', 'refcountBlock', 'inactiveL1'];

const TEMPLATES: ReadonlyMap<unknown, readonly GuardedStructure[]> = new Map([
  ['none', []],
  ['constant', CONSTANT],
  ['cached', CACHED],
  ['all', GUARDED_STRUCTURES],
]);

/** The structures to guard. Throws `BAD_ARGUMENT` for a template or a structure that does not exist. */
export function guardedStructures(check: OverlapCheck = 'cached'): ReadonlySet<GuardedStructure> {
  const { template = 'cached', ...switches } = typeof check === 'string' ? { template: check } : check;
  const named = TEMPLATES.get(template);
  if (named === undefined) {
    throw new Qcow2Error(
      'BAD_ARGUMENT',
      `overlapCheck is ${JSON.stringify(template)}; it must be none, constant, cached or all`,
    );
  }
  const guarded = new Set(named);
  for (const [name, on] of Object.entries(switches)) {
    const structure = GUARDED_STRUCTURES.find((known) => known === name);
    if (structure === undefined) {
      throw new Qcow2Error(
        'BAD_ARGUMENT',
        `overlapCheck has a switch ${JSON.stringify(name)}; there are ${GUARDED_STRUCTURES.join(', ')}`,
      );
    }
    if (on === true) guarded.add(structure);
    if (on === false) guarded.delete(structure);
  }
  return guarded;
}
