import { afterEach, describe, expect, it, vi } from 'vitest';
import { BlobStorage } from '../../src/storage/blob.js';
import { NotResident, settle } from '../../src/storage/not-resident.js';
import { READ_ONLY_CONTENT, patternBytes } from './conformance.js';
import { describeReadOnlyStorage } from './describe-conformance.js';

const CHUNK = 4096;

/** A blob that counts how often its bytes are fetched. */
class CountingBlob extends Blob {
  slices = 0;

  override slice(start?: number, end?: number): Blob {
    this.slices++;
    return super.slice(start, end);
  }
}

describeReadOnlyStorage('a blob', () => new BlobStorage(new Blob([READ_ONLY_CONTENT])));
describeReadOnlyStorage('a blob in small chunks with a cache of two', () => {
  return new BlobStorage(new Blob([READ_ONLY_CONTENT]), { chunkBytes: CHUNK, cacheBytes: 2 * CHUNK });
});

describe('blob storage outside of a worker', () => {
  it('throws NotResident for a chunk that is not here, and has it after load()', async () => {
    const storage = new BlobStorage(new Blob([patternBytes(3 * CHUNK)]), { chunkBytes: CHUNK });
    const target = new Uint8Array(10);
    const fault = faultOf(() => storage.read(CHUNK + 5, target));
    expect(target).toEqual(new Uint8Array(10));
    await fault.load();
    storage.read(CHUNK + 5, target);
    expect(target).toEqual(patternBytes(3 * CHUNK).subarray(CHUNK + 5, CHUNK + 15));
  });

  it('fetches all chunks of a read at once, and each once', async () => {
    const blob = new CountingBlob([patternBytes(8 * CHUNK)]);
    const storage = new BlobStorage(blob, { chunkBytes: CHUNK });
    const target = new Uint8Array(4 * CHUNK);
    const fault = faultOf(() => storage.read(100, target));
    await Promise.all([fault.load(), fault.load()]);
    storage.read(100, target);
    expect(target).toEqual(patternBytes(8 * CHUNK).subarray(100, 100 + 4 * CHUNK));
    expect(blob.slices).toBe(5);
  });

  it('forgets the chunks used longest ago', async () => {
    const blob = new CountingBlob([patternBytes(64 * CHUNK)]);
    const storage = new BlobStorage(blob, { chunkBytes: CHUNK, cacheBytes: 4 * CHUNK });
    const one = new Uint8Array(1);
    for (let index = 0; index < 64; index++) await settle(() => storage.read(index * CHUNK, one));
    expect(blob.slices).toBe(64);
    expect(() => storage.read(63 * CHUNK, one)).not.toThrow();
    expect(() => storage.read(0, one)).toThrow(NotResident);
  });

  it('gets to the end of an operation that reads more chunks than the cache was made for', async () => {
    const storage = new BlobStorage(new Blob([patternBytes(64 * CHUNK)]), { chunkBytes: CHUNK, cacheBytes: 2 * CHUNK });
    const one = new Uint8Array(1);
    let attempts = 0;
    const sum = await settle(() => {
      attempts++;
      let total = 0;
      for (let index = 0; index < 64; index += 2) {
        storage.read(index * CHUNK, one);
        total += one[0] ?? 0;
      }
      return total;
    });
    const expected = patternBytes(64 * CHUNK).filter((_, at) => at % (2 * CHUNK) === 0);
    expect(sum).toBe(expected.reduce((total, byte) => total + byte, 0));
    expect(attempts).toBeLessThan(200);
  });

  it('tells a blob that cannot be read as IO, with its name', async () => {
    const blob = new Blob([new Uint8Array(10)]);
    blob.slice = () => ({ arrayBuffer: () => Promise.reject(new Error('it changed')) }) as unknown as Blob;
    const storage = new BlobStorage(blob, { name: 'disk.qcow2' });
    await expect(settle(() => storage.read(0, new Uint8Array(1)))).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining('disk.qcow2') as string,
    });
  });
});

describe('blob storage in a worker', () => {
  afterEach(() => vi.unstubAllGlobals());

  it('answers at once, and keeps what it read', () => {
    const content = patternBytes(8 * CHUNK);
    let reads = 0;
    class FakeReader {
      readAsArrayBuffer(blob: { start: number; end: number }): ArrayBuffer {
        reads++;
        return content.slice(blob.start, blob.end).buffer;
      }
    }
    vi.stubGlobal('FileReaderSync', FakeReader);
    const blob = { size: content.length, slice: (start: number, end: number) => ({ start, end }) } as unknown as Blob;
    const storage = new BlobStorage(blob, { chunkBytes: CHUNK, cacheBytes: 2 * CHUNK });
    const target = new Uint8Array(5 * CHUNK);
    storage.read(10, target);
    expect(target).toEqual(content.subarray(10, 10 + 5 * CHUNK));
    expect(reads).toBe(6);
    storage.read(5 * CHUNK, target.subarray(0, 10));
    expect(reads).toBe(6);
  });
});

function faultOf(read: () => void): NotResident {
  try {
    read();
  } catch (error) {
    if (error instanceof NotResident) return error;
    throw error;
  }
  throw new Error('the read did not fault');
}
