/** Image files with bitmaps, as they are and as somebody has changed them. */
import {
  addBitmap,
  createImage,
  MemoryStorage,
  openImage,
  Qcow2Error,
  type CreateOptions,
  type NewBitmap,
} from '../../../src/index.js';
import { Qcow2Bytes } from '../../support/qcow2-bytes.js';
import { extensionAt } from '../../support/raw-bitmaps.js';

export const SIZE = 2 ** 20;
export const CLUSTER = 4096;

export function imageBytes(
  bitmaps: readonly NewBitmap[] = [],
  options: Partial<CreateOptions> = {},
): Uint8Array<ArrayBuffer> {
  const storage = new MemoryStorage();
  createImage(storage, { size: SIZE, clusterSize: CLUSTER, ...options });
  const image = openImage(storage);
  for (const bitmap of bitmaps) addBitmap(image, bitmap);
  image.close();
  return storage.toBytes();
}

/** The file with its bitmap directory changed by hand; `directory` is where that lies. */
export function changed(
  bytes: Uint8Array,
  change: (file: Qcow2Bytes, directory: number) => void,
): Uint8Array<ArrayBuffer> {
  const file = new Qcow2Bytes(bytes);
  change(file, file.u64(extensionAt(file)! + 16));
  return new Uint8Array(file.bytes);
}

/** The code of the error that `call` throws. */
export function code(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    if (error instanceof Qcow2Error) return error.code;
    throw error;
  }
  return 'nothing';
}
