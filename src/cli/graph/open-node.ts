/**
 * Opening of nodes: from a file name and options to the graph that they describe, as QEMU's `bdrv_open`.
 *
 *   name, options -> json: unfolded -> driver named? -> protocol: open the host's file
 *                                          |        -> format: open what it stands on, then the format over it
 *                                          `-> none: open the protocol, look at the first bytes
 *
 * Options are taken out of the bag by who understands them; one that is left over is an error. What was opened on the way is closed
 * when something fails.
 */
import { CliError, withPrefix } from '../text/messages.js';
import type { BlockNode, NodeReference, OpenFlags } from './block-node.js';
import { DRIVERS, protocolOf, type Driver } from './drivers.js';
import type { OpenContext } from './driver.js';
import { OptionBag } from './option-bag.js';
import { probeFormat } from './probe.js';
import { readReference, type ReadReference } from './reference.js';
import { takeGenericOptions } from './generic-options.js';

/**
 * Opens a node with all that it stands on. Where no driver is named, the first bytes decide. Rejects with `CliError`, whose message
 * is QEMU's without the tool's own prefix ("Could not open 'x': No such file or directory").
 */
export async function openNode(reference: NodeReference, flags: OpenFlags): Promise<BlockNode> {
  return open(readReference(reference), flags, false);
}

/** Opens the protocol node alone (the file as it is), whatever format it has: for a check, or to write a new image into it. */
export async function openProtocol(reference: NodeReference, flags: OpenFlags): Promise<BlockNode> {
  return open(readReference(reference), flags, true);
}

async function open(reference: ReadReference, flags: OpenFlags, protocol: boolean): Promise<BlockNode> {
  const named = reference.options.takeText('driver');
  const driver = named === undefined ? null : driverOf(named);
  if (driver?.kind === 'protocol' || (driver === null && protocol)) return openOnHost(driver, reference, flags);
  return openFormat(driver, reference, flags);
}

function driverOf(name: string): Driver {
  const driver = DRIVERS.get(name);
  if (driver === undefined) throw new CliError(`Unknown driver '${name}'`);
  return driver;
}

async function openOnHost(named: Driver | null, reference: ReadReference, flags: OpenFlags): Promise<BlockNode> {
  const { fileName, options } = reference;
  if (fileName !== null) {
    if (options.has('filename')) {
      throw new CliError("Can't specify 'file' and 'filename' options at the same time");
    }
    options.set('filename', fileName);
  }
  const driver = named ?? protocolOf(options, fileName !== null);
  if (fileName !== null) driver.readFileName?.(options);
  return openWith(driver, { options, flags, fileName, file: null });
}

async function openFormat(named: Driver | null, reference: ReadReference, flags: OpenFlags): Promise<BlockNode> {
  const { fileName, options } = reference;
  const file = await openFile(reference, flags);
  try {
    if (file === null) {
      if (named === null) throw new CliError('Must specify either driver or file');
      throw new CliError('A block device must be specified for "file"');
    }
    const driver = named ?? driverOf(probeFormat(file.storage));
    return await openWith(driver, { options, flags, fileName, file, probed: named === null });
  } catch (error) {
    file?.close();
    throw error;
  }
}

/** What a format stands on; null where nothing says what. */
async function openFile({ fileName, options }: ReadReference, flags: OpenFlags): Promise<BlockNode | null> {
  const below = options.takeUnder('file.');
  const reference = options.takeText('file');
  if (reference !== undefined) throw new CliError(`Cannot find device='${reference}' nor node-name='${reference}'`);
  if (fileName === null && below.isEmpty) return null;
  // What the node is opened for, its file is.
  for (const name of ['read-only', 'auto-read-only', 'force-share']) {
    const value = options.peek(name);
    if (value !== undefined) below.setDefault(name, value);
  }
  return open(
    { fileName, options: below },
    { ...flags, check: false, unmap: true, copyOnRead: false, snapshot: false },
    true,
  );
}

async function openWith(driver: Driver, given: GivenContext): Promise<BlockNode> {
  const { options, flags } = given;
  const generic = takeGenericOptions(options, flags);
  const context: OpenContext = {
    probed: false,
    strong: new Map([...options.rest].filter(([key]) => isStrong(driver, key))),
    ...given,
    ...generic,
    openChild: (name, bag) => open(readReference({ fileName: name, options: bag.rest }), generic.flags, true),
    openBacking: (name, bag) => openBacking(name, bag, generic.flags),
  };
  const node = await driver.open(context);
  const { firstLeft } = options;
  if (firstLeft === null) return node;
  node.close();
  const does = driver.kind === 'protocol' ? "protocol '%' doesn't" : "format '%' does not";
  throw new CliError(`Block ${does.replace('%', driver.name)} support the option '${firstLeft}'`);
}

function isStrong({ strong = [] }: Driver, key: string): boolean {
  return strong.some((name) => (name.endsWith('.') ? key.startsWith(name) : key === name));
}

type GivenContext = Pick<OpenContext, 'options' | 'flags' | 'fileName' | 'file'> & { readonly probed?: boolean };

/** A backing node is only read, whatever the image over it is opened for. */
async function openBacking(fileName: string | null, options: OptionBag, flags: OpenFlags): Promise<BlockNode> {
  const below = { ...flags, readOnly: true, copyOnRead: false, snapshot: false, check: false };
  try {
    return await open(readReference({ fileName, options: options.rest }), below, false);
  } catch (error) {
    throw withPrefix('Could not open backing file: ', error);
  }
}
