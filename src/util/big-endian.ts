/** Big-endian access to the records of the format. All numbers in qcow2 are stored big endian (spec, "General"). */
import { Qcow2Error } from '../errors.js';
import { hex } from './integers.js';

/** The 64-bit number at `at`. Throws `LIMIT` above 2^53 - 1, naming `field`. */
export function getUint64(view: DataView, at: number, field: string): number {
  const high = view.getUint32(at);
  const value = high * 0x1_0000_0000 + view.getUint32(at + 4);
  if (high > 0x1f_ffff) {
    throw new Qcow2Error('LIMIT', `${field} is ${hex(view.getBigUint64(at))}; offsets and sizes stop at 2^53 - 1`);
  }
  return value;
}

export function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 0x1_0000_0000));
  view.setUint32(at + 4, value % 0x1_0000_0000);
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
