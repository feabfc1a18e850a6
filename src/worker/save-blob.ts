/**
 * Streams a blob into a file of the visitor's, or any other stream: piece by piece, never all of it in memory.
 *
 * What fails, or is ended, aborts the target: a file then stays as it was, because a browser puts what was written in its place only at the
 * end.
 */
import { Qcow2Error } from '../errors.js';
import { fromBrowserError } from '../storage/opfs.js';
import type { JobOptions } from './job-options.js';

/** A file that the visitor has chosen (`showSaveFilePicker`), one of OPFS, or any stream of bytes. */
export type SaveTarget = FileSystemFileHandle | WritableStream<Uint8Array>;

/**
 * Saves all of `blob`, and closes the target.
 * @throws Qcow2Error as `openSaveTarget`, and `NO_SPACE`, `IO`, `ABORTED`.
 */
export async function saveBlob(blob: Blob, target: SaveTarget, options: JobOptions = {}): Promise<void> {
  const { onProgress, signal } = options;
  const stream = await openSaveTarget(target);
  let done = 0;
  const counted = new TransformStream<Uint8Array, Uint8Array>({
    transform(piece, controller) {
      controller.enqueue(piece);
      done += piece.length;
      onProgress?.({ done, total: blob.size, what: 'saving' });
    },
  });
  try {
    await piecesOf(blob)
      .pipeThrough(counted)
      .pipeTo(stream, signal === undefined ? {} : { signal });
  } catch (error) {
    if (signal?.aborted) throw new Qcow2Error('ABORTED', 'saving was ended by its AbortSignal', { cause: error });
    throw fromBrowserError(error, 'saving');
  }
}

/** @throws Qcow2Error `BAD_ARGUMENT` for a stream in use, `UNSUPPORTED` for a file that pages can't write in this browser, `IN_USE`, `IO`. */
export async function openSaveTarget(target: SaveTarget): Promise<WritableStream<Uint8Array>> {
  if (target instanceof WritableStream) {
    if (!target.locked) return target;
    throw new Qcow2Error('BAD_ARGUMENT', 'the stream to save to has a writer already');
  }
  if (!('createWritable' in target)) {
    throw new Qcow2Error('UNSUPPORTED', 'this browser lets no page write to that file; offer it as a download instead');
  }
  try {
    return await target.createWritable();
  } catch (error) {
    throw fromBrowserError(error, `opening ${target.name}`);
  }
}

/** What is read of the blob at once. Bytes. */
const PIECE_BYTES = 1024 * 1024;

/** Cut by us: how much a blob's own stream has in memory is up to the browser. */
function piecesOf(blob: Blob): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    async pull(controller) {
      if (at >= blob.size) return controller.close();
      const piece = blob.slice(at, at + PIECE_BYTES);
      at += piece.size;
      controller.enqueue(new Uint8Array(await piece.arrayBuffer()));
    },
  });
}
