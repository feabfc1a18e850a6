/** Gives a stream of pako's zlib its two buffers, whole: a cluster goes in and out in one call. */
import type { ZStream } from 'pako';

export function setBuffers(stream: ZStream, source: Uint8Array, target: Uint8Array<ArrayBuffer>): void {
  stream.input = source;
  stream.next_in = 0;
  stream.avail_in = source.length;
  stream.output = target;
  stream.next_out = 0;
  stream.avail_out = target.length;
}
