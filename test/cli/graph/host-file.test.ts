import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { HostFile } from '../../../src/cli/graph/host-file.js';

const folder = mkdtempSync(join(tmpdir(), 'host-file-'));
afterAll(() => rmSync(folder, { recursive: true }));

const KIB = 1024;

describe('zeroes written to a file of the host', () => {
  test.each([true, false])('are all there, however the range lies to the end of the file (holes: %s)', (punchHoles) => {
    const path = join(folder, 'file');
    const size = 256 * KIB + 300;
    for (const start of [0, 512, 64 * KIB, 193 * KIB, 256 * KIB]) {
      for (const length of [512, 63 * KIB, 64 * KIB, 100 * KIB, 300 * KIB]) {
        writeFileSync(path, Buffer.alloc(size, 7));
        const file = HostFile.open(path, { readOnly: false, noFlush: true, punchHoles });
        file.writeZeroes(start, length);
        file.close();
        const expected = Buffer.alloc(Math.max(size, start + length), 7).fill(0, start, start + length);
        if (start + length > size) expected.fill(0, size, start + length);
        expect(Buffer.compare(readFileSync(path), expected), `${length} bytes from ${start} on`).toBe(0);
      }
    }
  });
});
