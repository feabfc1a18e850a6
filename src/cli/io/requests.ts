/**
 * Requests: what reads and writes have in common, whether they are waited for or not. Each returns the time it took, or why it
 * failed, in the system's words.
 */
import { isQcow2Error, Qcow2Error } from '../../errors.js';
import { BadSnapshotL1 } from '../../format/snapshot-table.js';
import { readVmState, writeVmState } from '../../operations/snapshots/vm-state.js';
import type { BlockNode } from '../graph/block-node.js';
import { snapshotL1Refusal } from '../graph/qcow2-refusal.js';
import { ErrnoError, errorWords, strerror } from '../text/errno.js';
import { CliError } from '../text/messages.js';
import { toNumber } from '../text/sizes.js';
import { timed } from './report.js';

export type Result = { readonly seconds: number } | { readonly failure: string };

/** Runs a request. Mistakes of ours are thrown on. */
export function attempt(work: () => void): Result {
  try {
    return { seconds: timed(work) };
  } catch (error) {
    const known = error instanceof Qcow2Error || error instanceof CliError || error instanceof ErrnoError;
    if (!known) throw error;
    // What is to be guarded can't be: QEMU gives the number of that.
    if (error instanceof BadSnapshotL1) return { failure: strerror(snapshotL1Refusal(error).errno) };
    // To a guest a damaged image is an I/O error.
    if (isQcow2Error(error, 'BAD_IMAGE') || isQcow2Error(error, 'UNSUPPORTED')) return { failure: strerror('EIO') };
    return { failure: errorWords(error).words };
  }
}

/** An offset that is past every disk is an I/O error as one past this disk is. */
export function offsetInside(offset: bigint): number {
  const number = toNumber(offset);
  if (number === null) throw new CliError('Input/output error', { errno: 'EIO' });
  return number;
}

export function loadVmState(node: BlockNode, offset: number, target: Uint8Array): void {
  if (node.image === null) throw notSupported();
  readVmState(node.image, offset, target);
}

export function saveVmState(node: BlockNode, offset: number, source: Uint8Array): void {
  if (node.image === null) throw notSupported();
  writeVmState(node.image, offset, source);
}

function notSupported(): CliError {
  return new CliError('Operation not supported', { errno: 'ENOTSUP' });
}

/** Whether not all of the bytes are `pattern`. */
export function differsFrom(bytes: Uint8Array, pattern: number): boolean {
  return !Buffer.alloc(bytes.length, pattern).equals(bytes);
}
