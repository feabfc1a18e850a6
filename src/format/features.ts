/** Feature bits of a version 3 header (spec, "Header") and the feature name table (spec, "Feature name table"). */

export const INCOMPATIBLE_DIRTY = 1n << 0n;
export const INCOMPATIBLE_CORRUPT = 1n << 1n;
export const INCOMPATIBLE_DATA_FILE = 1n << 2n;
export const INCOMPATIBLE_COMPRESSION_TYPE = 1n << 3n;
export const INCOMPATIBLE_EXTENDED_L2 = 1n << 4n;
export const COMPATIBLE_LAZY_REFCOUNTS = 1n << 0n;
export const AUTOCLEAR_BITMAPS = 1n << 0n;
export const AUTOCLEAR_RAW_DATA_FILE = 1n << 1n;
export const KNOWN_AUTOCLEAR = AUTOCLEAR_BITMAPS | AUTOCLEAR_RAW_DATA_FILE;

export type FeatureKind = 'incompatible' | 'compatible' | 'autoclear';

export interface FeatureName {
  readonly kind: FeatureKind;
  /** 0 to 63. */
  readonly bit: number;
  readonly name: string;
}

const KINDS: readonly FeatureKind[] = ['incompatible', 'compatible', 'autoclear'];
const ENTRY_BYTES = 1 + 1 + 46; // type, bit number, name

/** The names we write into images, so that older software can say what it lacks. */
export const KNOWN_FEATURES: readonly FeatureName[] = [
  { kind: 'incompatible', bit: 0, name: 'dirty bit' },
  { kind: 'incompatible', bit: 1, name: 'corrupt bit' },
  { kind: 'incompatible', bit: 2, name: 'external data file' },
  { kind: 'incompatible', bit: 3, name: 'compression type' },
  { kind: 'incompatible', bit: 4, name: 'extended L2 entries' },
  { kind: 'compatible', bit: 0, name: 'lazy refcounts' },
  { kind: 'autoclear', bit: 0, name: 'bitmaps' },
  { kind: 'autoclear', bit: 1, name: 'raw external data' },
];

/** Entries of an unknown type are left out; a rest shorter than an entry is ignored. */
export function decodeFeatureNames(data: Uint8Array): FeatureName[] {
  const names: FeatureName[] = [];
  for (let at = 0; at + ENTRY_BYTES <= data.length; at += ENTRY_BYTES) {
    const kind = KINDS[data[at]!];
    if (kind === undefined) continue;
    const text = new TextDecoder().decode(data.subarray(at + 2, at + ENTRY_BYTES));
    names.push({ kind, bit: data[at + 1]!, name: text.replace(/\0.*$/s, '') });
  }
  return names;
}

export function encodeFeatureNames(names: readonly FeatureName[]): Uint8Array {
  const data = new Uint8Array(names.length * ENTRY_BYTES);
  names.forEach((feature, index) => {
    const at = index * ENTRY_BYTES;
    data[at] = KINDS.indexOf(feature.kind);
    data[at + 1] = feature.bit;
    data.set(new TextEncoder().encode(feature.name).subarray(0, ENTRY_BYTES - 2), at + 2);
  });
  return data;
}

/** `bits` as words for a message: "bit 7 (shiny feature), bit 9". */
export function describeBits(bits: bigint, kind: FeatureKind, names: readonly FeatureName[]): string {
  const words: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if (((bits >> BigInt(bit)) & 1n) === 0n) continue;
    const known = names.find((feature) => feature.kind === kind && feature.bit === bit);
    words.push(known ? `bit ${bit} (${known.name})` : `bit ${bit}`);
  }
  return words.join(', ');
}
