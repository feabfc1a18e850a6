/**
 * Driver: what opens the nodes of one kind. A format stands on another node, a protocol on the host.
 */
import type { BlockNode, NodeOptions, OpenFlags } from './block-node.js';
import type { OptionBag } from './option-bag.js';

export interface OpenContext {
  /** What is left of them when the driver has opened is not supported. */
  readonly options: OptionBag;
  /** With the node's own options worked in. */
  readonly flags: OpenFlags;
  /** As the user gave it; null where options say it all. */
  readonly fileName: string | null;
  /** The driver's strong options that were given. */
  readonly strong: NodeOptions;
  /** What a format stands on. */
  readonly file: BlockNode | null;
  /** The format was not named but guessed. */
  readonly probed: boolean;
  /** Empty for none. */
  readonly nodeName: string;
  readonly detectZeroes: 'off' | 'on' | 'unmap';
  /** Opens another node that this one stands on, a protocol where nothing else is said. */
  openChild(fileName: string | null, options: OptionBag): Promise<BlockNode>;
  /** Opens what lies below an image, for reading alone. */
  openBacking(fileName: string | null, options: OptionBag): Promise<BlockNode>;
}

export interface Driver {
  readonly name: string;
  readonly kind: 'format' | 'protocol';
  /** Before the colon of file names that are meant for it. */
  readonly prefix?: string;
  /** Options that change what a guest sees, so that the node is not what the name of its file says; with a dot at the end: all below. */
  readonly strong?: readonly string[];
  /** Turns the option `filename`, given as a file name, into the driver's options. */
  readFileName?(options: OptionBag): void;
  /** Takes over `context.file` only if it succeeds. */
  open(context: OpenContext): Promise<BlockNode>;
}
