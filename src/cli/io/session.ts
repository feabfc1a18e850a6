/**
 * Session: what the commands of qcow2-io work on: the open node, the console, and requests that are still to be told of.
 */
import type { BlockNode, CacheMode, NodeReference, OpenFlags } from '../graph/block-node.js';
import { openNode } from '../graph/open-node.js';
import type { Secrets } from '../graph/secrets.js';
import { reportError, reportThrown, withPrefix, type Console } from '../text/messages.js';
import { openSnapshotNode } from '../graph/snapshot-node.js';

/** How `open` was asked to open, on the command line or in the session. */
export interface OpenRequest {
  readonly reference: NodeReference;
  readonly readOnly: boolean;
  readonly snapshot: boolean;
  readonly copyOnRead: boolean;
  readonly forceShare: boolean;
  readonly unmap: boolean;
  readonly cache: CacheMode;
}

interface HeldRequest {
  /** Null for one that only waits behind another. */
  readonly tag: string | null;
  /** Carries it out; what it returns prints the result. */
  readonly request: () => () => void;
}

export class Session {
  readonly console: Console;
  readonly secrets: Secrets;
  /** File names are lists of options. */
  readonly imageOpts: boolean;
  quit = false;
  #node: BlockNode | null = null;
  #writethrough = false;
  /** What finished requests will print once somebody waits for them. */
  #finished: (() => void)[] = [];
  /** Requests that wait, in the order they were given. */
  #held: HeldRequest[] = [];

  constructor(parts: { readonly console: Console; readonly secrets: Secrets; readonly imageOpts: boolean }) {
    this.console = parts.console;
    this.secrets = parts.secrets;
    this.imageOpts = parts.imageOpts;
  }

  get node(): BlockNode | null {
    return this.#node;
  }

  /** Every write is followed by a flush. */
  get writethrough(): boolean {
    return this.#writethrough;
  }

  set writethrough(on: boolean) {
    this.#writethrough = on;
  }

  /** Opens a node, or says why not. */
  async open(request: OpenRequest): Promise<boolean> {
    if (this.#node !== null) {
      reportError(this.console, "file open already, try 'help close'");
      return false;
    }
    const { reference, cache, snapshot, ...switches } = request;
    const given = reference.options?.get('force-share');
    if (request.forceShare && given !== undefined && given !== 'on') {
      reportError(this.console, '-U conflicts with image options');
      return false;
    }
    const { console, secrets } = this;
    const flags: OpenFlags = { console, secrets, cache, ...switches };
    try {
      this.#node = snapshot ? await openSnapshotNode(reference, flags) : await openNode(reference, flags);
    } catch (error) {
      const name = reference.fileName === null ? '' : ` device ${reference.fileName}`;
      reportThrown(this.console, withPrefix(`can't open${name}: `, error));
      return false;
    }
    this.#writethrough = cache.writethrough;
    return true;
  }

  /**
   * Runs a request beside the commands, at once or, behind one that is suspended, after that. With a `tag` it is suspended itself.
   */
  submit(request: () => () => void, tag: string | null): void {
    if (tag !== null) this.console.out(`blkdebug: Suspended request '${tag}'\n`);
    if (tag !== null || this.#held.length > 0) this.#held.push({ tag, request });
    else this.#finished.push(request());
  }

  isSuspended(tag: string): boolean {
    return this.#held.some((held) => held.tag === tag);
  }

  /** Lets a suspended request go on, and those that wait behind it. False where there is none of that name. */
  resume(tag: string): boolean {
    if (!this.isSuspended(tag)) return false;
    this.console.out(`blkdebug: Resuming request '${tag}'\n`);
    this.#held = this.#held.map((held) => (held.tag === tag ? { ...held, tag: null } : held));
    this.#runHeld((held) => held.tag === null);
    return true;
  }

  #runHeld(mayRun: (held: HeldRequest) => boolean): void {
    while (this.#held[0] !== undefined && mayRun(this.#held[0])) {
      const { request } = this.#held.shift()!;
      this.#finished.push(request());
    }
  }

  /** Requests that are still held back end before the file is closed. */
  close(): void {
    this.#runHeld(() => true);
    this.settle();
    this.#node?.close();
    this.#node = null;
  }

  /** Prints what waits. */
  settle(): void {
    for (const print of this.#finished.splice(0)) print();
  }
}
