/**
 * Inlined modules: WASM that is in the bundle as text, a raw deflate stream in base64, which is two thirds of what plain base64 is
 * once a server has compressed the bundle.
 */
import { Z_FINISH, ZStream, zlibInflate, zlibInflateInit2 } from 'pako';
import { assert } from '../util/assert.js';

/** A deflate stream without a header, of the largest window. */
const RAW_WINDOW_BITS = -15;

/**
 * The bytes of a module of `length` bytes. By the part of pako that the codec has in the bundle already: its `inflateRaw` would bring
 * the rest.
 */
export function inlinedModule(deflatedBase64: string, length: number): Uint8Array<ArrayBuffer> {
  const deflated = Uint8Array.from(atob(deflatedBase64), (character) => character.charCodeAt(0));
  const bytes = new Uint8Array(length);
  const stream = new ZStream();
  zlibInflateInit2(stream, RAW_WINDOW_BITS);
  stream.input = deflated;
  stream.avail_in = deflated.length;
  stream.output = bytes;
  stream.avail_out = length;
  zlibInflate(stream, Z_FINISH);
  assert(stream.avail_out === 0, 'the inlined module is whole');
  return bytes;
}
