/** What may be handed over to the worker: an array that owns all of its buffer, since the whole buffer goes. */
import { Qcow2Error } from '../errors.js';
import type { Bytes } from './protocol.js';

/** The list to transfer `bytes` with. @throws Qcow2Error `BAD_ARGUMENT` for a view of a part of its buffer. */
export function handOver(bytes: Bytes, method: string): Transferable[] {
  if (bytes.byteLength === bytes.buffer.byteLength) return [bytes.buffer];
  const sizes = `${bytes.byteLength} of the ${bytes.buffer.byteLength} bytes of its buffer`;
  throw new Qcow2Error(
    'BAD_ARGUMENT',
    `${method} takes the whole buffer over, but the array has ${sizes}: pass a copy`,
  );
}
