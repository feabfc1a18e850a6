/**
 * Where an image to be imported comes from, and what it is: told by its first bytes, of which nothing is lost.
 *
 * A raw image has no mark. So what has none is taken for one only where it could be the content of a disk, whole sectors, and is no file of
 * a kind that is known.
 */
import { Qcow2Error } from '../errors.js';
import { SECTOR_BYTES } from '../format/limits.js';
import { downloadOf, openDownload } from '../network/download.js';
import { nextPiece, type StreamSource } from './store-stream.js';

/** A file of the visitor's, an address, an answer that is there, or any stream of bytes. */
export type ImageSource = Blob | URL | Response | ReadableStream<Uint8Array>;

export type ImageFormat = 'qcow2' | 'raw';

const QCOW2_MAGIC = [0x51, 0x46, 0x49, 0xfb];

/** Files that are dropped by mistake, by how they begin. */
const OTHERS: readonly { readonly what: string; readonly magic: readonly number[] | string }[] = [
  { what: 'compressed with gzip', magic: [0x1f, 0x8b] },
  { what: 'compressed with xz', magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a] },
  { what: 'compressed with zstd', magic: [0x28, 0xb5, 0x2f, 0xfd] },
  { what: 'compressed with bzip2', magic: 'BZh' },
  { what: 'a zip archive', magic: 'PK\x03\x04' },
  { what: 'a VMDK image', magic: 'KDMV' },
  { what: 'a VMDK descriptor', magic: '# Disk DescriptorFile' },
  { what: 'a VDI image', magic: '<<< ' },
  { what: 'a VHDX image', magic: 'vhdxfile' },
  { what: 'a VHD image', magic: 'conectix' },
  { what: 'a web page', magic: '<!' },
  { what: 'a web page', magic: '<html' },
];

/** As many bytes as are looked at. */
const HEAD_BYTES = 32;

/** @param total bytes in all of a stream, if known. @throws Qcow2Error `NETWORK`, `NOT_FOUND`, `ABORTED`, `BAD_ARGUMENT` for a response without a body. */
export async function openImageSource(
  source: ImageSource,
  { total, signal }: { readonly total: number | null; readonly signal: AbortSignal },
): Promise<StreamSource> {
  if (source instanceof Blob) return { stream: source.stream(), total: source.size };
  if (source instanceof URL) return openDownload(source.href, { signal });
  if (source instanceof ReadableStream) return { stream: source, total };
  const download = downloadOf(source);
  if (download === null) throw new Qcow2Error('BAD_ARGUMENT', 'the response has no body');
  return download;
}

/** Finds out what a stream holds. @throws Qcow2Error `NOT_QCOW2` for what is no image that is known, `UNSUPPORTED` for one of others. */
export async function recognized(source: StreamSource): Promise<{ format: ImageFormat; source: StreamSource }> {
  const { head, stream } = await withHead(source.stream);
  try {
    return { format: formatOf(head, source.total), source: { ...source, stream } };
  } catch (error) {
    await stream.cancel().catch(() => undefined);
    throw error;
  }
}

/** @param size null where nobody knows; then it is looked at when all is there. */
function formatOf(head: Uint8Array, size: number | null): ImageFormat {
  if (begins(head, QCOW2_MAGIC)) return 'qcow2';
  const other = OTHERS.find(({ magic }) => begins(head, magic));
  if (other !== undefined) {
    throw new Qcow2Error('UNSUPPORTED', `the file is ${other.what}; a qcow2 or a raw image is needed`);
  }
  if (size !== null) checkRawSize(size);
  return 'raw';
}

/** Whether so many bytes could be all of a disk. @throws Qcow2Error `NOT_QCOW2`. */
export function checkRawSize(size: number): void {
  if (size > 0 && size % SECTOR_BYTES === 0) return;
  const why = `and ${size} bytes are no whole sectors of ${SECTOR_BYTES}, so it is no raw image either`;
  throw new Qcow2Error('NOT_QCOW2', `the file is no qcow2 image: its magic is missing, ${why}`);
}

function begins(head: Uint8Array, magic: readonly number[] | string): boolean {
  const bytes = typeof magic === 'string' ? [...magic].map((letter) => letter.charCodeAt(0)) : magic;
  return bytes.length <= head.length && bytes.every((byte, index) => head[index] === byte);
}

/** The first bytes, and a stream of all of them. */
async function withHead(stream: ReadableStream<Uint8Array>) {
  const reader = stream.getReader();
  const next = () => nextPiece(reader, 'the image');
  const read: Uint8Array[] = [];
  const head = new Uint8Array(HEAD_BYTES);
  let length = 0;
  while (length < HEAD_BYTES) {
    const piece = await next();
    if (piece === null) break;
    read.push(piece);
    head.set(piece.subarray(0, HEAD_BYTES - length), length);
    length = Math.min(HEAD_BYTES, length + piece.length);
  }
  const whole = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const piece = read.shift() ?? (await next());
      if (piece === null) controller.close();
      else controller.enqueue(piece);
    },
    cancel: (reason) => reader.cancel(reason),
  });
  return { head: head.subarray(0, length), stream: whole };
}
