/**
 * Sends a stream of bytes to the worker, which stores it under a temporary name and puts it in place when all is there.
 * Each piece is sent when the one before is written, so that a fast download does not pile up.
 */
import { Qcow2Error } from '../errors.js';
import type { WorkerClient } from './client.js';
import type { JobOptions } from './opfs-disk.js';
import type { Bytes, FileAddress, StoreCommitRequest } from './protocol.js';
import type { DiskInfo } from './remote-disk.js';

export interface StreamSource {
  readonly stream: ReadableStream<Uint8Array>;
  /** Bytes in all, for the progress, and looked at in the end; null if nobody knows. */
  readonly total: number | null;
}

export interface StoreOptions extends JobOptions {
  readonly image: StoreCommitRequest['image'];
  /** What arrives is a raw image, and is stored as a qcow2. */
  readonly convert?: 'raw' | undefined;
  /** Looks at how much has arrived, when all has. Ends the storing by throwing. */
  readonly checkLength?: ((bytes: number) => void) | undefined;
}

/** @throws Qcow2Error `IN_USE`, `NO_SPACE`, `IO`, `ABORTED`, what the stream fails with where that is one, and what the check of an image finds; the old file stays then. */
export async function storeStream(
  client: WorkerClient,
  target: FileAddress,
  source: StreamSource,
  options: StoreOptions,
): Promise<DiskInfo | null> {
  const reader = source.stream.getReader();
  try {
    const { image, convert, onProgress, signal, checkLength } = options;
    await client.call({ kind: 'storeBegin', ...target, ...(convert && { convert }) });
    let length: number;
    try {
      length = await sendAll(client, target, { reader, total: source.total }, options);
      checkLength?.(length);
    } catch (error) {
      // What can't be removed now is removed when the folder is opened the next time.
      await client.call({ kind: 'storeAbandon' }).catch(() => undefined);
      throw error;
    }
    const checking = { done: length, total: length, what: `checking ${target.name}` };
    const told = onProgress && { onProgress: () => onProgress(checking) };
    return await client.call({ kind: 'storeCommit', image }, { ...told, ...(signal && { signal }) });
  } finally {
    // Does nothing after the end of the stream; before it, the download need not go on.
    await reader.cancel().catch(() => undefined);
  }
}

interface OpenSource {
  readonly reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly total: number | null;
}

async function sendAll(
  client: WorkerClient,
  target: FileAddress,
  { reader, total }: OpenSource,
  options: JobOptions,
): Promise<number> {
  let done = 0;
  for (;;) {
    if (options.signal?.aborted) throw new Qcow2Error('ABORTED', `storing ${target.name} was ended by its AbortSignal`);
    const piece = await nextPiece(reader, target.name);
    if (piece === null) break;
    done += piece.length;
    const bytes = ownBuffer(piece);
    await client.call({ kind: 'storeAppend', bytes }, { transfer: [bytes.buffer] });
    options.onProgress?.({ done, total: Math.max(done, total ?? 0), what: `storing ${target.name}` });
  }
  if (total !== null && done !== total) {
    throw new Qcow2Error('IO', `${target.name}: ${done} bytes arrived of ${total}`);
  }
  return done;
}

/** Null at the end. Throws `IO` for a stream that breaks, or what it fails with where that says more. */
export async function nextPiece(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  name: string,
): Promise<Uint8Array | null> {
  try {
    const { value, done } = await reader.read();
    return done ? null : value;
  } catch (cause) {
    if (cause instanceof Qcow2Error) throw cause;
    throw new Qcow2Error('IO', `${name}: its bytes stopped arriving: ${String(cause)}`, { cause });
  }
}

/** An array that can be handed over: alone in a buffer that can be transferred. */
function ownBuffer(piece: Uint8Array): Bytes {
  const { buffer } = piece;
  if (buffer instanceof ArrayBuffer && buffer.byteLength === piece.byteLength) return new Uint8Array(buffer);
  return new Uint8Array(piece);
}
