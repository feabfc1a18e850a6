/**
 * A file that goes elsewhere as it is written. They prove: whoever writes down all the pieces, in the order in which they are taken, has the
 * file; metadata can be read back until then, and guest data that is wanted again is not taken for zeroes.
 */
import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../../src/index.js';
import { PouredStorage, type Piece } from '../../src/storage/poured.js';
import { roundsOfThisRun } from '../support/campaign.js';
import { expectSameBytes } from '../support/model-disk.js';
import { seedOfThisRun, withSeed } from '../support/seeded-random.js';
import { patternBytes } from './conformance.js';

function writeDown(target: MemoryStorage, pieces: readonly Piece[]): void {
  for (const { offset, bytes } of pieces) target.write(offset, bytes);
}

function writeData(file: PouredStorage, offset: number, source: Uint8Array): void {
  file.announce('write_aio');
  file.write(offset, source);
}

describe('a file that is poured', () => {
  it('is what a file is that was written in the same way', () =>
    withSeed('poured', seedOfThisRun(811), (random) => {
      for (let round = 0; round < roundsOfThisRun(60); round++) {
        const [file, model, written] = [new PouredStorage(), new MemoryStorage(), new MemoryStorage()];
        for (let step = 0; step < 40; step++) {
          // Clusters are of one kind at a time; a cluster that changes its kind is written whole.
          const cluster = random.below(16);
          const isData = random.oneIn(2);
          const source = random.bytes(1024);
          if (isData) file.announce(random.pick(['write_aio', 'write_compressed']));
          file.write(cluster * 1024, source);
          model.write(cluster * 1024, source);
          if (!isData) {
            const part = random.bytes(random.between(1, 100));
            const at = cluster * 1024 + random.below(900);
            file.write(at, part);
            model.write(at, part);
            const [read, expected] = [new Uint8Array(700), new Uint8Array(700)];
            file.read(cluster * 1024 + 100, read);
            model.read(cluster * 1024 + 100, expected);
            expectSameBytes(read, expected, `round ${round}, step ${step}`);
          }
          if (random.oneIn(5)) writeDown(written, file.takePieces());
        }
        expect(file.size).toBe(model.size);
        writeDown(written, file.takePieces());
        expect(file.waitingBytes).toBe(0);
        writeDown(written, file.takeRest());
        written.truncate(file.size);
        expectSameBytes(written.toBytes(), model.toBytes(), `round ${round}`);
      }
    }));

  it('takes what lies together as one piece, of a size that can be sent', () => {
    const file = new PouredStorage();
    const source = patternBytes(3 << 20);
    for (let at = 0; at < source.length; at += 65536) writeData(file, 65536 + at, source.subarray(at, at + 65536));
    writeData(file, 8 << 20, source.subarray(0, 700));
    expect(file.waitingBytes).toBe((3 << 20) + 700);
    const pieces = file.takePieces();
    expect(pieces.map(({ offset, bytes }) => [offset, bytes.length])).toEqual([
      [65536, 1 << 20],
      [65536 + (1 << 20), 1 << 20],
      [65536 + (2 << 20), 1 << 20],
      [8 << 20, 700],
    ]);
    for (const { bytes } of pieces) expect(bytes.buffer.byteLength).toBe(bytes.length);
    expect(file.takePieces()).toEqual([]);
  });

  it('reads as zeroes where nothing was written, and to its new end', () => {
    const file = new PouredStorage();
    file.write(600, patternBytes(10));
    file.truncate(605);
    file.truncate(2000);
    const read = new Uint8Array(100).fill(1);
    file.read(590, read);
    expect([...read]).toEqual([...new Uint8Array(10), ...patternBytes(5), ...new Uint8Array(85)]);
    expect(file.size).toBe(2000);
  });

  it('refuses to make something up for data that is gone', () => {
    const file = new PouredStorage();
    writeData(file, 4096, patternBytes(512));
    expect(() => file.read(4000, new Uint8Array(512))).toThrow('guest data');
    expect(() => file.write(4100, new Uint8Array(8))).toThrow('guest data');
    expect(() => file.truncate(4200)).toThrow('written already');
    file.write(4096, new Uint8Array(512).fill(1));
    const read = new Uint8Array(1);
    file.read(4100, read);
    expect(read[0]).toBe(1);
  });
});
