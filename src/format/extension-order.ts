/**
 * The list of header extensions, changed (spec, "Header extensions"). Pure.
 *
 * QEMU writes those it knows in a fixed order and the unknown ones, as they were, behind them. So do we: two programs that
 * take turns on an image then leave the same bytes.
 */
import {
  EXTENSION_BACKING_FORMAT,
  EXTENSION_BITMAPS,
  EXTENSION_DATA_FILE,
  EXTENSION_ENCRYPTION,
  EXTENSION_FEATURE_NAMES,
  type HeaderExtension,
} from './header-extensions.js';
import { KNOWN_FEATURES, encodeFeatureNames } from './features.js';

const ORDER: readonly number[] = [
  EXTENSION_BACKING_FORMAT,
  EXTENSION_DATA_FILE,
  EXTENSION_ENCRYPTION,
  EXTENSION_FEATURE_NAMES,
  EXTENSION_BITMAPS,
];

/** Smaller first clusters keep the room for names: the feature name table is a courtesy. QEMU draws the line here, too. */
const SMALLEST_CLUSTER_WITH_FEATURE_NAMES = 8192;

/** The extensions in the order of the file. Unknown ones keep their order among themselves. */
export function orderExtensions(extensions: readonly HeaderExtension[]): HeaderExtension[] {
  const rank = ({ type }: HeaderExtension) => (ORDER.includes(type) ? ORDER.indexOf(type) : ORDER.length);
  return [...extensions].sort((a, b) => rank(a) - rank(b));
}

/** `extensions` with the one of `type` set to `data`, or without it for null. */
export function withExtension(
  extensions: readonly HeaderExtension[],
  type: number,
  data: Uint8Array | null,
): HeaderExtension[] {
  const others = extensions.filter((extension) => extension.type !== type);
  return orderExtensions(data === null ? others : [...others, { type, data }]);
}

/** `extensions` as `version` has them: the table of feature names belongs to version 3, where the cluster has room for it. */
export function withFeatureNames(
  extensions: readonly HeaderExtension[],
  version: 2 | 3,
  clusterSize: number,
): HeaderExtension[] {
  const named = version === 3 && clusterSize >= SMALLEST_CLUSTER_WITH_FEATURE_NAMES;
  return withExtension(extensions, EXTENSION_FEATURE_NAMES, named ? encodeFeatureNames(KNOWN_FEATURES) : null);
}
