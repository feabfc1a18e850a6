/**
 * Saving an export: the worker makes it, and the page writes it piece by piece into a file of the visitor's, or any other stream.
 *
 * A file can be written at any place, so an export goes there as it is made. A stream takes bytes in their order only; an export for one is
 * made as a whole first.
 */
import { Qcow2Error } from '../errors.js';
import { fromBrowserError } from '../storage/opfs.js';
import type { Piece } from '../storage/poured.js';
import { assert } from '../util/assert.js';
import type { CallOptions, WorkerClient } from './client.js';
import type { SavedContent } from './export-content.js';
import { savingEnded, takePieces } from './piece-pipe.js';
import { openSaveTarget, type SaveTarget } from './save-blob.js';

/** A target that does not answer is not waited for any longer when saving is given up. */
const ABORT_MILLISECONDS = 1000;

/**
 * Saves what is asked for, and closes the target. Whatever it fails with, the target is aborted: a file is as it was then.
 * @throws Qcow2Error as `openSaveTarget` and the export, `NO_SPACE`, `IO`, `ABORTED`.
 */
export async function saveImage(
  client: WorkerClient,
  target: SaveTarget,
  content: SavedContent,
  options: Pick<CallOptions, 'onProgress' | 'signal'>,
): Promise<void> {
  // Opened before the long part: whether it can be written is known at once.
  const writer = new PieceWriter(await openSaveTarget(target), !(target instanceof WritableStream));
  const { port1: here, port2: port } = new MessageChannel();
  takePieces(here, (piece) => writer.write(piece));
  try {
    const inOrder = !writer.isFile;
    const size = await client.call({ kind: 'save', content, inOrder, port }, { ...options, transfer: [port] });
    // Ended when all had been sent: the file is not in its place yet.
    if (options.signal?.aborted) throw savingEnded();
    await writer.end(size);
  } catch (error) {
    await writer.abort(error);
    // The worker has heard of it, and says it again in its words.
    throw writer.failure ?? error;
  } finally {
    here.close();
  }
}

class PieceWriter {
  /** Whether it is written at any place. */
  readonly isFile: boolean;
  /** What the target failed with. */
  failure: Qcow2Error | null = null;
  readonly #writer: WritableStreamDefaultWriter<unknown>;
  #end = 0;

  constructor(stream: WritableStream<never>, isFile: boolean) {
    this.isFile = isFile;
    this.#writer = writerOf(stream);
  }

  async write({ offset, bytes }: Piece): Promise<void> {
    assert(this.isFile || offset === this.#end, `a stream is at ${this.#end}, and a piece for ${offset} has come`);
    this.#end = Math.max(this.#end, offset + bytes.length);
    const chunk = this.isFile ? { type: 'write', position: offset, data: bytes } : bytes;
    await this.#attempt(() => this.#writer.write(chunk));
  }

  /** @param size of the whole file. Bytes. */
  async end(size: number): Promise<void> {
    await this.#attempt(async () => {
      if (this.isFile && size > this.#end) await this.#writer.write({ type: 'truncate', size });
      await this.#writer.close();
    });
    this.#writer.releaseLock();
  }

  async abort(reason: unknown): Promise<void> {
    const aborted = this.#writer.abort(reason).catch(() => undefined);
    await Promise.race([aborted, new Promise((resolve) => setTimeout(resolve, ABORT_MILLISECONDS))]);
    this.#writer.releaseLock();
  }

  async #attempt(act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      this.failure = fromBrowserError(error, 'saving');
      throw this.failure;
    }
  }
}

/** Two who ask for it at once both find it free; the second is refused here. */
function writerOf(stream: WritableStream<never>): WritableStreamDefaultWriter<unknown> {
  try {
    return stream.getWriter();
  } catch (cause) {
    throw new Qcow2Error('BAD_ARGUMENT', 'the stream to save to has a writer already', { cause });
  }
}
