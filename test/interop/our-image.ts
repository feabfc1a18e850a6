/**
 * Our side of an interop test: images in files, opened through the public API as a user of the package would.
 */
import { createImage, openChain, type CreateOptions, type OpenOptions, type Qcow2Image } from '../../src/index.js';
import { NodeFileStorage } from '../../src/node.js';

/** Creates an image file with our own `createImage`. */
export function createOurs(path: string, options: CreateOptions): void {
  const storage = NodeFileStorage.open(path, { create: true });
  try {
    createImage(storage, options);
    storage.flush();
  } finally {
    storage.close();
  }
}

/** Opens an image file and whatever it names below itself; the names are paths of this test's own directory. */
export function openOurs(path: string, options: OpenOptions = {}): Promise<Qcow2Image> {
  const storage = NodeFileStorage.open(path, { readOnly: options.readOnly ?? false });
  return openChain(storage, {
    ...options,
    opener: ({ name, writable }) => NodeFileStorage.open(name, { readOnly: !writable }),
  });
}

/** Opens, runs `body`, closes. A failure of `body` is the one reported, even if the close fails after it. */
export async function withOurs<T>(path: string, body: (image: Qcow2Image) => T, options?: OpenOptions): Promise<T> {
  const image = await openOurs(path, options);
  let result: T;
  try {
    result = body(image);
  } catch (error) {
    try {
      image.close();
    } catch {
      // The first failure explains the second.
    }
    throw error;
  }
  image.close();
  return result;
}
