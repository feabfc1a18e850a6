import { mkdtempSync, openSync, closeSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { dataRuns, HoleMap } from '../../../src/cli/graph/hole-map.js';

const lines = (...extents: string[]) =>
  [
    'Filesystem type is: ef53',
    ' ext:     logical_offset:        physical_offset: length:   expected: flags:',
    ...extents,
  ].join('\n') + `\n/proc/self/fd/0: ${extents.length} extents found\n`;

describe('what filefrag tells', () => {
  test('is the runs of data, in bytes, those that follow each other as one', () => {
    const output = lines(
      '   0:        0..       7:  176514976.. 176514983:      8:             ',
      '   1:        8..      15:  176515976.. 176515983:      8:  176514984:',
      '   2:      192..     199:  172761280.. 172761287:      8:        192: last',
    );
    expect(dataRuns(output)).toEqual([
      { start: 0, end: 8192 },
      { start: 98304, end: 102400 },
    ]);
  });

  test('leaves out what is only reserved', () => {
    expect(
      dataRuns(lines('   0:        0..      15:     34816..     34831:     16:             last,unwritten,eof')),
    ).toEqual([]);
  });

  test('counts as nothing known where content lies in the inode, or a line is not understood', () => {
    expect(
      dataRuns(
        lines('   0:        0..       0:          0..         0:      1:             last,not_aligned,inline,eof'),
      ),
    ).toBeNull();
    expect(dataRuns(lines('   0:        0..      -1:          0..        -1:      0:             last'))).toBeNull();
    expect(dataRuns('/proc/self/fd/0: FIBMAP/FIEMAP unsupported\n')).toBeNull();
  });
});

test('what was just written is data, also before the host has given it a block', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holes-'));
  const path = join(folder, 'file');
  writeFileSync(path, '');
  const descriptor = openSync(path, 'r+');
  try {
    writeSync(descriptor, Buffer.alloc(4096, 1), 0, 4096, 2 ** 20);
    expect(new HoleMap().runAt(descriptor, { offset: 2 ** 20, length: 4096 })).toEqual({ data: true, length: 4096 });
  } finally {
    closeSync(descriptor);
    rmSync(folder, { recursive: true });
  }
});
