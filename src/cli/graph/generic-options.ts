/**
 * Options that every node has, whatever its driver.
 */
import { CliError } from '../text/messages.js';
import type { OpenFlags } from './block-node.js';
import { parseDiscardMode } from './cache-mode.js';
import type { OptionBag } from './option-bag.js';

export interface GenericOptions {
  readonly flags: OpenFlags;
  /** Empty for none. */
  readonly nodeName: string;
  readonly detectZeroes: 'off' | 'on' | 'unmap';
}

/** Throws `CliError` in QEMU's words. */
export function takeGenericOptions(options: OptionBag, flags: OpenFlags): GenericOptions {
  const name = options.takeText('node-name');
  if (name !== undefined && !/^[A-Za-z][A-Za-z0-9._-]*$/.test(name)) throw new CliError(`Invalid node-name: '${name}'`);
  const readOnly = options.takeBool('read-only') ?? flags.readOnly ?? false;
  options.takeBool('auto-read-only');
  const forceShare = options.takeBool('force-share') ?? flags.forceShare ?? false;
  const direct = options.takeBool('cache.direct') ?? flags.cache?.direct ?? false;
  const noFlush = options.takeBool('cache.no-flush') ?? flags.cache?.noFlush ?? false;
  const unmap = takeDiscard(options) ?? flags.unmap ?? false;
  const detectZeroes = takeDetectZeroes(options, unmap);
  if (forceShare && !readOnly) throw new CliError('force-share=on can only be used with read-only images');
  const copyOnRead = flags.copyOnRead ?? false;
  if (copyOnRead && readOnly) throw new CliError("Can't use copy-on-read on read-only device");
  const cache = { writethrough: flags.cache?.writethrough ?? false, direct, noFlush };
  return { flags: { ...flags, readOnly, forceShare, unmap, cache }, nodeName: name ?? '', detectZeroes };
}

function takeDiscard(options: OptionBag): boolean | undefined {
  const discard = options.takeText('discard');
  if (discard === undefined) return undefined;
  const unmap = parseDiscardMode(discard);
  if (unmap === null) throw new CliError('Invalid discard option');
  return unmap;
}

function takeDetectZeroes(options: OptionBag, unmap: boolean): 'off' | 'on' | 'unmap' {
  const mode = options.takeText('detect-zeroes') ?? 'off';
  if (mode !== 'off' && mode !== 'on' && mode !== 'unmap') {
    throw new CliError(`Parameter 'detect-zeroes' does not accept value '${mode}'`);
  }
  if (mode === 'unmap' && !unmap) {
    throw new CliError('setting detect-zeroes to unmap is not allowed without setting discard operation to unmap');
  }
  return mode;
}
