import { describe, expect, it } from 'vitest';
import type { Progress } from '../../src/util/progress.js';
import { saveBlob } from '../../src/worker/save-blob.js';
import { patternBytes } from '../storage/conformance.js';
import { expectSameBytes } from './same-bytes.js';

const CONTENT = patternBytes((3 << 20) + 700);

/** Keeps what is written to it, as a file does: what was aborted has nothing. */
function collector(write: (piece: Uint8Array) => void | Promise<void> = () => {}) {
  const pieces: Uint8Array[] = [];
  const state = { closed: false, aborted: null as unknown };
  const stream = new WritableStream<Uint8Array>({
    async write(piece) {
      await write(piece);
      pieces.push(piece.slice());
    },
    close: () => void (state.closed = true),
    abort: (reason) => void (state.aborted = reason),
  });
  return { stream, state, bytes: () => new Uint8Array(Buffer.concat(pieces)) };
}

describe('saving a blob', () => {
  it('writes all of it in order, closes the target, and tells how far it is', async () => {
    const { stream, state, bytes } = collector();
    const seen: Progress[] = [];
    await saveBlob(new Blob([CONTENT]), stream, { onProgress: (step) => seen.push(step) });
    expectSameBytes(bytes(), CONTENT);
    expect(state).toEqual({ closed: true, aborted: null });
    expect(seen.length).toBeGreaterThan(1);
    expect(seen.at(-1)).toMatchObject({ done: CONTENT.length, total: CONTENT.length });
  });

  it('reads no further ahead than the target takes', async () => {
    const [blob, seen, ahead] = [new Blob([patternBytes(8 << 20)]), [0], [] as number[]];
    let written = 0;
    const { stream } = collector(async (piece) => {
      const before = seen.at(-1)!;
      // As long as reading a piece takes, and longer: a reader that does not wait for the target has its time.
      for (let turn = 0; turn < 20; turn++) await blob.slice(0, 1 << 20).arrayBuffer();
      written += piece.length;
      ahead.push(Math.max(before, seen.at(-1)!) - written);
    });
    await saveBlob(blob, stream, { onProgress: ({ done }) => seen.push(done) });
    expect(seen.at(-1)).toBe(8 << 20);
    expect(ahead).toHaveLength(8);
    expect(Math.max(...ahead)).toBeLessThan(4 << 20);
  });

  it('aborts the target when its signal ends it', async () => {
    const { stream, state } = collector();
    const abort = new AbortController();
    const saved = saveBlob(new Blob([CONTENT]), stream, { signal: abort.signal, onProgress: () => abort.abort() });
    await expect(saved).rejects.toMatchObject({ name: 'Qcow2Error', code: 'ABORTED' });
    expect(state.closed).toBe(false);
    expect(state.aborted).not.toBeNull();
  });

  it('says NO_SPACE and IO as the target fails', async () => {
    const full = new DOMException('full', 'QuotaExceededError');
    const failing = (error: unknown) => saveBlob(new Blob([CONTENT]), collector(() => Promise.reject(error)).stream);
    await expect(failing(full)).rejects.toMatchObject({ code: 'NO_SPACE' });
    await expect(failing(new Error('no medium'))).rejects.toMatchObject({ code: 'IO' });
  });

  it('refuses a stream that has a writer, and a file that can not be written', async () => {
    const { stream } = collector();
    stream.getWriter();
    await expect(saveBlob(new Blob([]), stream)).rejects.toMatchObject({ code: 'BAD_ARGUMENT' });
    const file = { kind: 'file', name: 'x' } as FileSystemFileHandle;
    await expect(saveBlob(new Blob([]), file)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
});
