import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { NodeFileStorage } from '../../src/node.js';
import { READ_ONLY_CONTENT } from './conformance.js';
import { describeReadOnlyStorage, describeWritableStorage } from './describe-conformance.js';

const directory = mkdtempSync(join(tmpdir(), 'qcow2-wasm-storage-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

let files = 0;
function freshPath(): string {
  return join(directory, `file-${files++}`);
}

describeWritableStorage('a file of Node', () => NodeFileStorage.open(freshPath(), { create: true }));

describeReadOnlyStorage('a file of Node', () => {
  const path = freshPath();
  writeFileSync(path, READ_ONLY_CONTENT);
  return NodeFileStorage.open(path, { readOnly: true });
});

describe('a file of Node', () => {
  it('keeps what it holds when it is opened with `create`', () => {
    const path = freshPath();
    writeFileSync(path, 'kept');
    const storage = NodeFileStorage.open(path, { create: true });
    storage.write(4, Buffer.from('!'));
    storage.close();
    expect(readFileSync(path, 'utf8')).toBe('kept!');
  });

  it('that does not exist is NOT_FOUND, and is named', () => {
    const path = freshPath();
    expect(() => NodeFileStorage.open(path)).toThrow(expect.objectContaining({ code: 'NOT_FOUND' }));
    expect(() => NodeFileStorage.open(path)).toThrow(path);
  });

  it('that cannot be opened is IO with the cause kept', () => {
    expect(() => NodeFileStorage.open(directory)).toThrow(
      expect.objectContaining({ code: 'IO', cause: expect.objectContaining({ code: 'EISDIR' }) }),
    );
  });

  it('used after its close fails with a Qcow2Error', () => {
    const storage = NodeFileStorage.open(freshPath(), { create: true });
    storage.write(0, Uint8Array.of(1));
    storage.close();
    const qcow2Error = expect.objectContaining({ name: 'Qcow2Error' });
    expect(() => storage.read(0, new Uint8Array(1))).toThrow(qcow2Error);
    expect(() => storage.write(0, Uint8Array.of(1))).toThrow(qcow2Error);
    expect(() => storage.flush()).toThrow(qcow2Error);
  });
});
