/**
 * Probing: which format the first bytes of a file are. Any that is not known is `raw`, which is why QEMU warns of guessing it: a
 * guest could write the beginnings of another.
 */
import { MAGIC } from '../../format/header.js';
import type { Storage } from '../../storage/storage.js';
import { viewOf } from '../../util/big-endian.js';
import { isBochs } from './bochs-driver.js';
import { LUKS_MAGIC } from './luks-driver.js';

/** What a guest must not change from one format to another. */
export const PROBED_BYTES = 512;

export type ProbedFormat = 'qcow2' | 'luks' | 'bochs' | 'raw';

export function probeFormat(storage: Storage): ProbedFormat {
  const start = new Uint8Array(PROBED_BYTES);
  storage.read(0, start);
  return formatOf(start);
}

export function formatOf(start: Uint8Array): ProbedFormat {
  if (start.length < 8) return 'raw';
  const view = viewOf(start);
  if (view.getUint32(0) === MAGIC && view.getUint32(4) >= 2) return 'qcow2';
  if (LUKS_MAGIC.every((byte, index) => start[index] === byte) && view.getUint16(6) === 1) return 'luks';
  return isBochs(start) ? 'bochs' : 'raw';
}
