/** What the list of disks reads of an image, compared with what the engine wrote. */
import { describe, expect, it } from 'vitest';
import { imageFacts } from '../../demo/src/image-facts.js';
import { createImage, MemoryStorage, newEncryption, type CreateOptions } from '../../src/index.js';

function image(options: CreateOptions): Blob {
  const storage = new MemoryStorage();
  createImage(storage, options);
  return new Blob([new Uint8Array(storage.toBytes())]);
}

describe('the facts of an image', () => {
  it('are its backing file and its encryption', async () => {
    const backing = { name: 'linux.qcow2#identity="ü"', format: 'qcow2' } as const;
    expect(await imageFacts(image({ size: 1 << 20 }))).toEqual({ backingFile: null, encryption: null });
    expect(await imageFacts(image({ size: 1 << 20, version: 2, backing }))).toEqual({
      backingFile: backing.name,
      encryption: null,
    });
    for (const format of ['aes', 'luks'] as const) {
      const cheap = format === 'luks' ? { iterTime: 10 } : {};
      const encryption = await newEncryption({ format, passphrase: 'words', ...cheap });
      expect(await imageFacts(image({ size: 1 << 20, encryption }))).toEqual({ backingFile: null, encryption: format });
    }
  });

  it('are none of what is no qcow2, or ends too early', async () => {
    expect(await imageFacts(new Blob(['no image, but long enough to hold a header of one']))).toBeNull();
    expect(await imageFacts(image({ size: 1 << 20 }).slice(0, 35))).toBeNull();
    expect(await imageFacts(new Blob([]))).toBeNull();
  });
});
