/**
 * The exports of the open disk that the page saves.
 *
 *   a file, of which a snapshot holds all     made and sent at once
 *   any other                                 made as a temporary file | sent, beside the queue: the disk has no part in it
 *
 * Any other is: one for a stream, which takes bytes in their order; one with snapshots, which share clusters, so that these are read
 * again and changed; and one of a disk that must stand still, since it can't have the snapshot of an export.
 */
import type { Qcow2Image } from '../image/qcow2-image.js';
import { copiedSnapshots } from '../operations/snapshots/copy-with-snapshots.js';
import { partOf } from '../util/progress.js';
import type { ExportSession } from './export-session.js';
import { PageTarget, TemporaryTarget } from './export-target.js';
import type { ImageFiles } from './image-files.js';
import { throwIfCancelled, type JobTurns } from './job.js';
import { PieceSender } from './piece-pipe.js';
import type { SaveRequest } from './protocol.js';
import type { Call, TurnQueue } from './request-handlers.js';

/** Of what is sent of a file at once. Bytes. */
const PIECE_BYTES = 1024 * 1024;

/** Sent as it was made, or to be sent: by the name of a temporary file. */
type Made = { readonly size: number } | { readonly name: string };

export class SaveSession {
  readonly #files: ImageFiles;
  readonly #image: Qcow2Image;
  readonly #exports: ExportSession;

  constructor(files: ImageFiles, image: Qcow2Image, exports: ExportSession) {
    this.#files = files;
    this.#image = image;
    this.#exports = exports;
  }

  /** Resolves with the size of the file, when the page has written it. Takes its turn at once, so it is of the moment of its request. */
  async save(request: SaveRequest, call: Call, queue: TurnQueue): Promise<number> {
    const sender = new PieceSender(request.port);
    const turns = call.turns();
    try {
      const made = await queue.inTurn(() => this.#make(request, sender, turns));
      return 'size' in made ? made.size : await this.#send(made.name, sender, call);
    } finally {
      sender.close();
    }
  }

  async #make({ content, inOrder }: SaveRequest, sender: PieceSender, turns: JobTurns): Promise<Made> {
    throwIfCancelled(turns.signal);
    const holdsSeveral = content.of === 'disk' && content.snapshots && copiedSnapshots(this.#image).length > 0;
    if (!inOrder && !holdsSeveral) {
      const target = new PageTarget(sender);
      // A snapshot that is made from now on has no part in it.
      const ofOne = content.of === 'disk' ? { ...content, snapshots: false } : content;
      if ((await this.#exports.write(target, ofOne, turns)) !== null) return { size: target.size };
    }
    const { name } = await this.#files.createTemporary();
    try {
      await this.#exports.write(new TemporaryTarget(this.#files, name), content, firstOfTwo(turns));
    } catch (error) {
      await this.#files.remove(name);
      throw error;
    }
    return { name };
  }

  async #send(name: string, sender: PieceSender, { signal, tell }: Call): Promise<number> {
    try {
      const file = await this.#files.open(name, 'read-only');
      try {
        const total = file.size;
        for (let offset = 0; offset < total; offset += PIECE_BYTES) {
          const bytes = new Uint8Array(Math.min(PIECE_BYTES, total - offset));
          file.read(offset, bytes);
          const done = offset + bytes.length;
          await sender.send({ offset, bytes }, signal);
          tell(partOf({ done, total, what: 'saving' }, 1, 2));
        }
        return total;
      } finally {
        file.close();
      }
    } finally {
      await this.#files.remove(name);
    }
  }
}

function firstOfTwo(turns: JobTurns): JobTurns {
  return {
    ...turns,
    of: (kind) => {
      const between = turns.of(kind);
      return (progress) => between(partOf(progress, 0, 2));
    },
  };
}
