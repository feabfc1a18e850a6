/**
 * Discard policy: whether the place of freed clusters is given back to the host, by the reason they were freed for. As in QEMU
 * (`pass-discard-request`, `-snapshot`, `-other`); what is not passed down stays in the file, to be used again.
 *
 * A hole is punched once nothing stable names the cluster and its count is 0 (invariants 3 and 4 of `write-order.ts`): a
 * crash before or after loses nothing, for the bytes are nobody's.
 */

/** `never`: about to be used again, most likely. `always`: asked for by the caller, whatever the policy. */
export type FreeReason = 'request' | 'snapshot' | 'other' | 'never' | 'always';

export interface DiscardOptions {
  /** What the guest discarded, or unmapped with zeroes. Default true. */
  readonly request?: boolean | undefined;
  /** What was freed with a snapshot. Default true. */
  readonly snapshot?: boolean | undefined;
  /** Everything else: old tables, clusters that were copied on write. Default false. */
  readonly other?: boolean | undefined;
}

/** The reasons for which holes are punched. */
export function reasonsPassedDown(options: DiscardOptions = {}): ReadonlySet<FreeReason> {
  const { request = true, snapshot = true, other = false } = options;
  const reasons = new Set<FreeReason>(['always']);
  if (request) reasons.add('request');
  if (snapshot) reasons.add('snapshot');
  if (other) reasons.add('other');
  return reasons;
}
