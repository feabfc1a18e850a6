/**
 * Shown names: what QEMU calls an open node. Where the name of the file says it all, it is that; otherwise `json:` and the options that
 * make what a guest sees another (QEMU's "strong" ones: a key, a window, rules for errors), with those of the nodes below.
 */
import { jsonText, parseJson, type JsonObject, type JsonValue } from '../text/json-text.js';
import type { BlockNode, NodeOptions, OptionValue } from './block-node.js';

const JSON_PREFIX = 'json:';

export interface NamedNode {
  readonly driver: string;
  /** What the node stands on. */
  readonly file: BlockNode;
  /** The options that its file's name does not tell. */
  readonly strong: NodeOptions;
  /** Undefined: that which the image names, or none. */
  readonly backing?: BlockNode | null | undefined;
}

/** The name of a format over a file. */
export function shownName({ driver, file, strong, backing }: NamedNode): string {
  const plain = strong.size === 0 && backing === undefined && !file.fileName.startsWith(JSON_PREFIX);
  if (plain) return file.fileName;
  const below = backing === undefined ? {} : { backing: backing && description(backing) };
  return jsonName({ driver, file: description(file), ...below }, strong);
}

export function jsonName(members: JsonObject, options: Iterable<readonly [string, OptionValue]>): string {
  return JSON_PREFIX + jsonText({ ...Object.fromEntries(options), ...members });
}

/** A node as a `json:` name has it. */
export function description({ driver, fileName, file }: BlockNode): JsonValue {
  if (fileName.startsWith(JSON_PREFIX)) return parseJson(fileName.slice(JSON_PREFIX.length));
  if (file === null) return { driver, filename: fileName };
  if (driver !== 'blkdebug') return { driver, file: description(file) };
  const config = fileName.split(':')[1];
  return { driver, config: config === '' ? undefined : config, image: description(file) };
}
