/**
 * `blkdebug`: another node whose accesses fail by rules, from a configuration file and from options. Names of files are
 * `blkdebug:[config]:image`.
 *
 * The limits that it can pretend to have (`align`, `max-transfer`, ...) are taken and change nothing: the engine reads and writes any
 * bytes, and nothing that a guest sees depends on how they are cut up.
 */
import { readFileSync } from 'node:fs';
import { errorWords } from '../text/errno.js';
import { CliError } from '../text/messages.js';
import type { Driver } from './driver.js';
import { Breakpoints } from './breakpoints.js';
import { BlkdebugRules, takeErrorRule, takeStateRule, type BlkdebugRule } from './blkdebug-rules.js';
import { blkdebugStorage } from './blkdebug-storage.js';
import { parseConfigFile } from './config-file.js';
import { OptionBag } from './option-bag.js';
import type { BlockNode, NodeOptions } from './block-node.js';
import { description, jsonName } from './shown-name.js';
import { StorageNode } from './storage-node.js';

const PREFIX = 'blkdebug:';
const LIMITS = ['align', 'max-transfer', 'opt-write-zero', 'max-write-zero', 'opt-discard', 'max-discard'];
const GROUPS = { 'inject-error': takeErrorRule, 'set-state': takeStateRule } as const;

type Group = keyof typeof GROUPS;

export const blkdebugDriver: Driver = {
  name: 'blkdebug',
  kind: 'protocol',
  prefix: 'blkdebug',
  strong: ['inject-error.', 'set-state.', ...LIMITS],
  readFileName(options) {
    const fileName = options.takeText('filename') ?? '';
    // Without the prefix the driver was named by an option, and the name is that of the image alone.
    const rest = fileName.startsWith(PREFIX) ? fileName.slice(PREFIX.length) : `:${fileName}`;
    const colon = rest.indexOf(':');
    if (colon < 0) throw new CliError('blkdebug requires both config file and image path');
    if (colon > 0) options.set('config', rest.slice(0, colon));
    options.set('x-image', rest.slice(colon + 1));
  },
  async open(context) {
    const { options, flags, nodeName, strong } = context;
    const config = options.takeText('config');
    const rules = new BlkdebugRules([...rulesOfFile(config), ...rulesOfOptions(options)]);
    for (const name of LIMITS) options.takeBytes(name);
    const name = options.takeText('x-image');
    const below = options.takeUnder('image.');
    if (name === undefined && below.isEmpty) throw new CliError('A block device must be specified for "image"');
    const file = await context.openChild(name ?? null, below);
    const { readOnly = false, unmap = false } = flags;
    const storage = blkdebugStorage(file, rules);
    return new StorageNode({
      driver: 'blkdebug',
      breakpoints: new Breakpoints(),
      nodeName,
      fileName: nameOf(config, file, strong),
      storage,
      file,
      readOnly,
      unmap,
    });
  },
};

function nameOf(config: string | undefined, file: BlockNode, strong: NodeOptions): string {
  if (strong.size === 0 && !file.fileName.startsWith('json:')) return `${PREFIX}${config ?? ''}:${file.fileName}`;
  return jsonName({ driver: 'blkdebug', config, image: description(file) }, strong);
}

function rulesOfFile(path: string | undefined): BlkdebugRule[] {
  if (path === undefined) return [];
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    const { errno, words } = errorWords(cause);
    throw new CliError(`Could not read blkdebug config file: ${words}`, { errno, cause });
  }
  return parseConfigFile(text, path).map(({ name, options }) => {
    const group = groupOf(name);
    if (group === undefined) throw new CliError(`There is no option group '${name}'`);
    return ruleOf(group, new OptionBag(options));
  });
}

function groupOf(name: string): Group | undefined {
  return name === 'inject-error' || name === 'set-state' ? name : undefined;
}

/** `inject-error.0.event=...`, or without a number where there is one rule. */
function rulesOfOptions(options: OptionBag): BlkdebugRule[] {
  return (Object.keys(GROUPS) as Group[]).flatMap((group) => {
    const all = options.takeUnder(`${group}.`);
    const rules: BlkdebugRule[] = [];
    for (let index = 0; ; index++) {
      const one = all.takeUnder(`${index}.`);
      if (one.isEmpty) break;
      rules.push(ruleOf(group, one));
    }
    return all.isEmpty ? rules : [...rules, ruleOf(group, all)];
  });
}

function ruleOf(group: Group, options: OptionBag): BlkdebugRule {
  const rule = GROUPS[group](options);
  const { firstLeft } = options;
  if (firstLeft !== null) throw new CliError(`Invalid parameter '${firstLeft}'`);
  return rule;
}
