/**
 * What the list of disks tells of a qcow2 without opening it, so that also a disk that is locked, or in use, can be listed. Whoever opens
 * the image judges it; nothing here is trusted with more than being shown.
 *
 *    0        4        8                16       20       24               32       36
 *   +--------+--------+----------------+--------+--------+----------------+--------+
 *   | QFI\xfb | version| backing offset | length | (bits) | size           | crypt  |
 *   +--------+--------+----------------+--------+--------+----------------+--------+
 */

const HEADER_BYTES = 36;
const MAGIC = 0x514649fb;
/** The most that the format allows. */
const MAXIMUM_BACKING_BYTES = 1023;
const ENCRYPTIONS = [null, 'aes', 'luks'] as const;

export interface ImageFacts {
  /** As the image names it; null: it stands alone. */
  readonly backingFile: string | null;
  readonly encryption: 'luks' | 'aes' | null;
}

/** Null where it is no qcow2, or can't be read now. */
export async function imageFacts(image: Blob): Promise<ImageFacts | null> {
  try {
    const header = await view(image, 0, HEADER_BYTES);
    if (header.byteLength < HEADER_BYTES || header.getUint32(0) !== MAGIC) return null;
    const [offset, length] = [Number(header.getBigUint64(8)), header.getUint32(16)];
    const isNamed = offset > 0 && length > 0 && length <= MAXIMUM_BACKING_BYTES;
    const backingFile = isNamed ? new TextDecoder().decode(await view(image, offset, length)) : null;
    return { backingFile, encryption: ENCRYPTIONS[header.getUint32(32)] ?? null };
  } catch {
    // The file was written since it was looked up.
    return null;
  }
}

async function view(image: Blob, offset: number, length: number): Promise<DataView> {
  return new DataView(await image.slice(offset, offset + length).arrayBuffer());
}
