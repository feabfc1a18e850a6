/**
 * Rules of `blkdebug`: which access fails, and with what. They are set off by events, the moments of a driver that a storage is told of
 * (`storage/access-purpose.ts`), and may depend on a state that other rules change.
 *
 *   event --> the rules for it, of this state --> errors: they replace those that were waiting
 *                                            `-> states: the last one counts, after all rules have been looked at
 *   access -> the first waiting error that fits place and kind; one that is `once` is gone then
 */
import { ErrnoError, errnoOfNumber, type Errno } from '../text/errno.js';
import { CliError } from '../text/messages.js';
import type { OptionBag } from './option-bag.js';

/** Kinds of access, as QEMU calls them. */
export type AccessKind = 'read' | 'write' | 'write-zeroes' | 'discard' | 'flush' | 'block-status';

interface ErrorRule {
  readonly kind: 'error';
  readonly event: string;
  /** 0: in any. */
  readonly state: number;
  /** A name of the system's, or null for a rule that injects nothing. */
  readonly errno: Errno | null;
  readonly once: boolean;
  /** Bytes from the start; null for any place. */
  readonly offset: number | null;
  readonly access: AccessKind | null;
}

interface StateRule {
  readonly kind: 'state';
  readonly event: string;
  readonly state: number;
  readonly newState: number;
}

export type BlkdebugRule = ErrorRule | StateRule;

const KINDS: readonly string[] = ['read', 'write', 'write-zeroes', 'discard', 'flush', 'block-status'];
const SECTOR = 512;
const EIO = 5;

export class BlkdebugRules {
  #rules: readonly BlkdebugRule[];
  #waiting: ErrorRule[] = [];
  #state = 1;

  constructor(rules: readonly BlkdebugRule[]) {
    this.#rules = rules;
    this.event('none');
  }

  event(name: string): void {
    const fitting = this.#rules.filter(({ event, state }) => event === name && (state === 0 || state === this.#state));
    const errors = fitting.filter((rule) => rule.kind === 'error');
    if (errors.length > 0) this.#waiting = errors.reverse();
    for (const rule of fitting) if (rule.kind === 'state') this.#state = rule.newState;
  }

  /** Throws the error that a rule has for this access; `errno` says which. */
  check(access: AccessKind, offset: number, length: number): void {
    const rule = this.#waiting.find((waiting) => {
      if (waiting.access !== null && waiting.access !== access) return false;
      return waiting.offset === null || (waiting.offset >= offset && waiting.offset < offset + length);
    });
    if (rule?.errno == null) return;
    if (rule.once) {
      this.#waiting = this.#waiting.filter((waiting) => waiting !== rule);
      this.#rules = this.#rules.filter((other) => other !== rule);
    }
    throw new ErrnoError(rule.errno);
  }
}

/** Takes an error rule's options. Throws `CliError` in QEMU's words. */
export function takeErrorRule(options: OptionBag): BlkdebugRule {
  const common = takeCommon(options);
  const number = Number(options.takeText('errno') ?? EIO);
  const sector = Number(options.takeText('sector') ?? -1);
  const access = options.takeText('iotype') ?? null;
  if (access !== null && !KINDS.includes(access)) throw new CliError(`Invalid parameter '${access}'`);
  options.takeBool('immediately');
  const once = options.takeBool('once') ?? false;
  const offset = sector < 0 ? null : sector * SECTOR;
  return { kind: 'error', ...common, errno: nameOf(number), once, offset, access: access as AccessKind | null };
}

/** Takes the options of a rule that changes the state. */
export function takeStateRule(options: OptionBag): BlkdebugRule {
  const common = takeCommon(options);
  return { kind: 'state', ...common, newState: Number(options.takeText('new_state') ?? 0) };
}

function takeCommon(options: OptionBag): { readonly event: string; readonly state: number } {
  const event = options.takeText('event');
  if (event === undefined) throw new CliError('Missing event name for rule');
  if (!EVENTS.has(event)) throw new CliError(`invalid parameter value: ${event}`);
  return { event, state: Number(options.takeText('state') ?? 0) };
}

function nameOf(number: number): Errno | null {
  return number === 0 ? null : (errnoOfNumber(number) ?? 'EIO');
}

/** All events that QEMU has a name for. Those that its block layer knows and the engine does not have never happen. */
const EVENTS: ReadonlySet<string> = new Set(
  `l1_update l1_grow_alloc_table l1_grow_write_table l1_grow_activate_table l2_load l2_update l2_update_compressed
  l2_alloc_cow_read l2_alloc_write read_aio read_backing_aio read_compressed write_aio write_compressed vmstate_load
  vmstate_save cow_read cow_write reftable_load reftable_grow reftable_update refblock_load refblock_update
  refblock_update_part refblock_alloc refblock_alloc_hookup refblock_alloc_write refblock_alloc_write_blocks
  refblock_alloc_write_table refblock_alloc_switch_table cluster_alloc cluster_alloc_bytes cluster_free flush_to_os
  flush_to_disk pwritev_rmw_head pwritev_rmw_after_head pwritev_rmw_tail pwritev_rmw_after_tail pwritev pwritev_zero
  pwritev_done empty_image_prepare l1_shrink_write_table l1_shrink_free_l2_clusters cor_write cluster_alloc_space none`.split(
    /\s+/,
  ),
);
