/**
 * The picture that a snapshot is stored with, and behind it what the page needs to show the machine as it was:
 *
 *   +---------------+----------------+-------------------+--------------------+
 *   | image file    | notes          | length of the     | mark, 8 bytes      |
 *   | (WebP or PNG) | (deflate JSON) | notes, 4 bytes BE | "QW-NOTES"         |
 *   +---------------+----------------+-------------------+--------------------+
 *
 * An image file ends where its own format says, and decoders pass over what follows, so all of it can be shown as it is. Where no
 * picture could be had in time there is none, and the notes stand alone (`hasImage`). The notes go with the snapshot wherever its
 * qcow2 goes, and go when it goes: nothing is kept beside the disk.
 *
 * Pictures come from images that anybody may have made: what is no notes is none, and notes are inflated to a limit.
 */

/** What a snapshot may take along (`SaveSnapshotOptions.picture`). */
const PICTURE_FILE_BYTES = 64 * 1024;

const MARK = new TextEncoder().encode('QW-NOTES');
const LENGTH_BYTES = 4;
const TRAILER_BYTES = LENGTH_BYTES + MARK.length;

/** Characters of serial output that are kept at most; the oldest go first. */
const SERIAL_CHARACTERS = 64 * 1024;

/** UTF-8 may take four bytes a character, and JSON six for a control character. */
const NOTES_BYTES = 6 * SERIAL_CHARACTERS + 1024;

/** What the page showed beside the picture. */
export interface PageNotes {
  /** Whether the guest had said that it is ready. */
  readonly ready: boolean;
  /** Whether the guest had halted its processor for good, as one that is powered off does. */
  readonly halted: boolean;
  /** The end of what it had printed on its serial port. */
  readonly serial: string;
}

/** The image file, if there is one, with the notes behind it; of the serial output as much as there is room for. */
export async function packPicture(picture: Uint8Array | null, notes: PageNotes): Promise<Uint8Array> {
  const image = picture ?? new Uint8Array(0);
  let serial = lastLines(notes.serial, SERIAL_CHARACTERS);
  let packed = await deflate(JSON.stringify({ ...notes, serial }));
  while (image.length + packed.length + TRAILER_BYTES > PICTURE_FILE_BYTES && serial.length > 0) {
    serial = lastLines(serial, serial.length >> 1);
    packed = await deflate(JSON.stringify({ ...notes, serial }));
  }
  const file = new Uint8Array(image.length + packed.length + TRAILER_BYTES);
  file.set(image);
  file.set(packed, image.length);
  new DataView(file.buffer).setUint32(image.length + packed.length, packed.length);
  file.set(MARK, file.length - MARK.length);
  return file;
}

/** Whether there is something to be shown: not in a file of notes alone. What was made by something else may be an image. */
export function hasImage(picture: Uint8Array): boolean {
  const place = placeOfNotes(picture);
  return place === null ? picture.length > 0 : place.start > 0;
}

/** The notes behind a picture, or null: it was made by something else, or is damaged. */
export async function notesOf(picture: Uint8Array): Promise<PageNotes | null> {
  const place = placeOfNotes(picture);
  if (place === null) return null;
  try {
    const text = await inflate(picture.slice(place.start, place.end), NOTES_BYTES);
    const notes: unknown = JSON.parse(text);
    return isPageNotes(notes) ? { ready: notes.ready, halted: notes.halted, serial: notes.serial } : null;
  } catch {
    return null;
  }
}

/** Where the packed notes are, in bytes; null without the mark. */
function placeOfNotes(picture: Uint8Array): { readonly start: number; readonly end: number } | null {
  const markAt = picture.length - MARK.length;
  const end = markAt - LENGTH_BYTES;
  if (end < 0 || !MARK.every((byte, index) => picture[markAt + index] === byte)) return null;
  const length = new DataView(picture.buffer, picture.byteOffset + end).getUint32(0);
  return length > end ? null : { start: end - length, end };
}

function isPageNotes(value: unknown): value is PageNotes {
  if (typeof value !== 'object' || value === null) return false;
  const { ready, halted, serial } = value as Record<string, unknown>;
  return typeof ready === 'boolean' && typeof halted === 'boolean' && typeof serial === 'string';
}

/** At most `length` characters from the end, from the start of a line on: not from within a sequence of the terminal's. */
function lastLines(text: string, length: number): string {
  if (text.length <= length) return text;
  const tail = text.slice(text.length - length);
  return tail.slice(tail.indexOf('\n') + 1);
}

async function deflate(text: string): Promise<Uint8Array> {
  const stream = new Blob([text]).stream().pipeThrough(new CompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** @throws if it is no deflated text, or more than `limit` bytes of it. */
async function inflate(bytes: Uint8Array<ArrayBuffer>, limit: number): Promise<string> {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate')).getReader();
  const decoder = new TextDecoder();
  let text = '';
  let length = 0;
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    length += piece.value.length;
    if (length > limit) {
      await reader.cancel();
      throw new Error(`the notes take more than ${limit} bytes`);
    }
    text += decoder.decode(piece.value, { stream: true });
  }
  return text + decoder.decode();
}
