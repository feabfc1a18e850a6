/** The notes behind a snapshot's picture. */
import { describe, expect, it } from 'vitest';
import { hasImage, notesOf, packPicture } from '../../demo/src/picture-file.js';
import { SeededRandom } from '../support/seeded-random.js';

const LIMIT = 64 * 1024;
const image = new SeededRandom(4).bytes(9000);

/** Lines that can't be made much smaller. */
function noisyLines(characters: number): string {
  const random = new SeededRandom(5);
  let text = '';
  while (text.length < characters) text += `${random.next().toString(36)} ${random.next().toString(36)}\r\n`;
  return text;
}

describe('a picture with notes', () => {
  it('begins with the image as it was, and gives the notes back', async () => {
    const notes = {
      ready: true,
      halted: true,
      serial: 'guest:~# echo \u2713\r\n\u001b[1;34mbin\u001b[0m\r\nguest:~# ',
    };
    const file = await packPicture(image, notes);
    expect(Buffer.compare(file.subarray(0, image.length), image)).toBe(0);
    expect(await notesOf(file)).toEqual(notes);
    // As a part of a larger buffer, which is how it comes out of a worker.
    const larger = new Uint8Array(file.length + 20);
    larger.set(file, 7);
    expect(await notesOf(larger.subarray(7, 7 + file.length))).toEqual(notes);
  });

  it('keeps the last 65536 characters of the serial output, from the start of a line on', async () => {
    const serial = `${'x'.repeat(70_000)}\r\nlast line\r\n${'y'.repeat(60_000)}`;
    const notes = await notesOf(await packPicture(image, { ready: false, halted: false, serial }));
    expect(notes?.serial).toBe(`last line\r\n${'y'.repeat(60_000)}`);
  });

  it('never takes more than 64 KiB: of output that does not get smaller it keeps less', async () => {
    const serial = noisyLines(200_000);
    const large = new SeededRandom(6).bytes(40_000);
    const file = await packPicture(large, { ready: true, halted: false, serial });
    expect(file.length).toBeLessThanOrEqual(LIMIT);
    const kept = (await notesOf(file))?.serial ?? '';
    expect(kept.length).toBeGreaterThan(10_000);
    expect(serial.endsWith(`\n${kept}`)).toBe(true);
  });

  it('has notes also without an image, and says that there is none to be shown', async () => {
    const notes = { ready: false, halted: true, serial: 'Power down\r\n' };
    const alone = await packPicture(null, notes);
    expect(await notesOf(alone)).toEqual(notes);
    expect(hasImage(alone)).toBe(false);
    expect(hasImage(new Uint8Array(0))).toBe(false);
    expect(hasImage(await packPicture(image, notes))).toBe(true);
    expect(hasImage(image), 'of somebody else’s snapshot').toBe(true);
  });

  it('has none where something else made the picture', async () => {
    expect(await notesOf(image)).toBeNull();
    expect(await notesOf(new Uint8Array(0))).toBeNull();
    expect(await notesOf(new TextEncoder().encode('QW-NOTES'))).toBeNull();
  });

  it('has none where it is damaged, wherever the damage is', async () => {
    const file = await packPicture(image, { ready: true, halted: false, serial: noisyLines(2000) });
    for (let at = image.length; at < file.length; at++) {
      const damaged = file.slice();
      damaged[at]! ^= 0x41;
      expect(await notesOf(damaged), `byte ${at}`).toBeNull();
    }
  });

  it('has none where the notes are of another kind, or would fill the memory', async () => {
    const packed = async (text: string): Promise<Uint8Array> => {
      const stream = new Blob([text]).stream().pipeThrough(new CompressionStream('deflate'));
      const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
      const file = new Uint8Array(bytes.length + 12);
      file.set(bytes);
      new DataView(file.buffer).setUint32(bytes.length, bytes.length);
      file.set(new TextEncoder().encode('QW-NOTES'), bytes.length + 4);
      return file;
    };
    const fine = { ready: true, halted: false, serial: 'fine' };
    expect(await notesOf(await packed(JSON.stringify(fine)))).toEqual(fine);
    const others = [
      { ...fine, ready: 1 },
      { ...fine, halted: 'no' },
      { ready: true, halted: true },
    ];
    for (const text of ['null', '[]', 'no JSON', ...others.map((other) => JSON.stringify(other))]) {
      expect(await notesOf(await packed(text)), text).toBeNull();
    }
    const bomb = await packed(`{"ready":true,"halted":false,"serial":"${'0'.repeat(20e6)}"}`);
    expect(bomb.length).toBeLessThan(LIMIT);
    expect(await notesOf(bomb)).toBeNull();
  });
});
