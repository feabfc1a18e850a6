/**
 * The header of a cache file (`cache-file.ts`): which version of which base it keeps, and notes of what has been found out since.
 *
 *   0   +----------------------------------------+
 *       | "qbas", layout version                 |  4 bytes each, as are the next two
 *   8   | checksum, bytes of the text            |
 *   16  | bytes of a chunk (4, 4 unused)         |
 *   24  | bytes of the base (8)                  |
 *   32  +----------------------------------------+
 *       | notes: last opened (8, ms since 1970)  |  0: not known
 *   40  | its SHA-256 (4), its profile (4)       |
 *   48  +----------------------------------------+
 *       | URL, identity, validator as JSON       |
 *   4096+----------------------------------------+
 *
 * All numbers are big endian. The checksum is that of the header with zeroes for itself and for the notes: these change while several threads have
 * the file open, each by one write of its own aligned bytes. One that a crash loses is found out again.
 */
import { Qcow2Error } from '../errors.js';
import type { Storage } from '../storage/storage.js';
import { murmurHash32 } from '../util/murmur-hash.js';
import { ChunkGeometry } from './chunk-geometry.js';

export const HEADER_BYTES = 4096;

const MAGIC = 0x71_62_61_73; // "qbas"
/**
 * Of the layout. A file of another one is none: what it keeps is fetched anew, into a file of another name (`kept-bases.ts`), since a page of an
 * earlier release may still have the old one open.
 */
export const LAYOUT_VERSION = 2;

const AT = {
  magic: 0,
  version: 4,
  checksum: 8,
  textLength: 12,
  chunkBytes: 16,
  size: 24,
  lastUsed: 32,
  digest: 40,
  profile: 44,
  text: 48,
} as const;

/** How the base compares with the digest that its identity is; by what stands in the file. */
const DIGEST_STATES = ['not compared', 'holds', 'wrong'] as const;
export type DigestState = (typeof DIGEST_STATES)[number];

export interface CacheLabel {
  readonly url: string;
  readonly identity: string;
  /** What the server itself calls the version, an identity as well; null where it says nothing. */
  readonly served: string | null;
}

export interface CacheHeader {
  readonly geometry: ChunkGeometry;
  readonly label: CacheLabel;
}

/** @throws Qcow2Error `LIMIT` for a label that does not fit. */
export function headerBytes(geometry: ChunkGeometry, { url, identity, served }: CacheLabel): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const text = new TextEncoder().encode(JSON.stringify({ url, identity, served }));
  if (text.length > HEADER_BYTES - AT.text) {
    throw new Qcow2Error(
      'LIMIT',
      `URL and identity of a base have ${text.length} bytes; ${HEADER_BYTES - AT.text} is the most`,
    );
  }
  bytes.set(text, AT.text);
  const view = new DataView(bytes.buffer);
  view.setUint32(AT.magic, MAGIC);
  view.setUint32(AT.version, LAYOUT_VERSION);
  view.setUint32(AT.textLength, text.length);
  view.setUint32(AT.chunkBytes, geometry.chunkBytes);
  view.setBigUint64(AT.size, BigInt(geometry.size));
  view.setUint32(AT.checksum, murmurHash32(bytes));
  return bytes;
}

/** Null for anything that is not a whole header of this layout. */
export function readHeader(storage: Storage): CacheHeader | null {
  const bytes = new Uint8Array(HEADER_BYTES);
  storage.refresh?.();
  storage.read(0, bytes);
  const view = new DataView(bytes.buffer);
  const checksum = view.getUint32(AT.checksum);
  view.setUint32(AT.checksum, 0);
  bytes.fill(0, AT.lastUsed, AT.text);
  if (view.getUint32(AT.magic) !== MAGIC || view.getUint32(AT.version) !== LAYOUT_VERSION) return null;
  if (murmurHash32(bytes) !== checksum) return null;
  const text = new TextDecoder().decode(bytes.subarray(AT.text, AT.text + view.getUint32(AT.textLength)));
  const geometry = new ChunkGeometry(Number(view.getBigUint64(AT.size)), view.getUint32(AT.chunkBytes));
  return { geometry, label: JSON.parse(text) as CacheLabel };
}

/** What any thread may write down at any time. */
export class CacheNotes {
  readonly #storage: Storage;

  constructor(storage: Storage) {
    this.#storage = storage;
  }

  /** When it was last opened, in milliseconds since 1970. */
  get lastUsed(): number | null {
    const time = Number(this.#read(AT.lastUsed, 8).getBigUint64(0));
    return time === 0 ? null : time;
  }

  set lastUsed(time: number | null) {
    this.#write(AT.lastUsed, 8, (view) => view.setBigUint64(0, BigInt(time ?? 0)));
  }

  get digest(): DigestState {
    return DIGEST_STATES[this.#read(AT.digest, 4).getUint32(0)] ?? 'not compared';
  }

  set digest(state: DigestState) {
    this.#write(AT.digest, 4, (view) => view.setUint32(0, DIGEST_STATES.indexOf(state)));
  }

  /** Whether all that the boot profile at `url` names has been kept, and so nobody needs to ask for it again. */
  hasProfile(url: string): boolean {
    return this.#read(AT.profile, 4).getUint32(0) === profileMark(url);
  }

  noteProfile(url: string): void {
    this.#write(AT.profile, 4, (view) => view.setUint32(0, profileMark(url)));
  }

  #read(at: number, length: number): DataView {
    const bytes = new Uint8Array(length);
    this.#storage.read(at, bytes);
    return new DataView(bytes.buffer);
  }

  #write(at: number, length: number, fill: (view: DataView) => void): void {
    const bytes = new Uint8Array(length);
    fill(new DataView(bytes.buffer));
    this.#storage.write(at, bytes);
  }
}

/** Zero is that of no profile. */
function profileMark(url: string): number {
  return murmurHash32(new TextEncoder().encode(url)) || 1;
}
