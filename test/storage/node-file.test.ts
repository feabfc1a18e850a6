import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
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

  it('gives holes of the size it was told of back to the file system, and keeps smaller ones', () => {
    const path = freshPath();
    const MIB = 2 ** 20;
    const storage = NodeFileStorage.open(path, { create: true, punchHolesFrom: MIB });
    storage.write(0, new Uint8Array(8 * MIB).fill(7));
    storage.flush();
    const before = statSync(path).blocks;
    storage.punchHole(MIB, MIB - 4096);
    expect(statSync(path).blocks).toBe(before);
    storage.punchHole(2 * MIB, 4 * MIB);
    expect(before - statSync(path).blocks).toBeGreaterThanOrEqual((4 * MIB) / 512);
    const expected = new Uint8Array(8 * MIB).fill(7).fill(0, 2 * MIB, 6 * MIB);
    expect(Buffer.compare(readFileSync(path), expected)).toBe(0);
    expect(storage.size).toBe(8 * MIB);
  });

  it('says why a hole can not be punched', () => {
    const storage = NodeFileStorage.open(freshPath(), { create: true, punchHolesFrom: 0 });
    storage.write(0, new Uint8Array(4096));
    expect(() => storage.punchHole(-4096, 4096)).toThrow(
      expect.objectContaining({ code: 'IO', message: expect.stringContaining('fallocate') as string }),
    );
  });

  it('asks for its size again when it is refreshed', () => {
    const path = freshPath();
    const storage = NodeFileStorage.open(path, { create: true });
    storage.write(0, Uint8Array.of(1));
    writeFileSync(path, 'somebody else');
    expect(storage.size).toBe(1);
    storage.refresh();
    expect(storage.size).toBe(13);
  });
});
