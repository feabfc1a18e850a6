import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { errorWords } from '../../../src/cli/text/errno.js';
import { newFolder, newImage, open } from './images.js';

const MIB = 2 ** 20;

/** The words of what `work` throws; null when it does not. */
function failureOf(work: () => void): string | null {
  try {
    work();
    return null;
  } catch (error) {
    return errorWords(error).words;
  }
}

const image = () => newImage(newFolder(), 'a.qcow2', { size: MIB });

describe('blkdebug', () => {
  it('fails what comes after an event, once or for good', async () => {
    const path = image();
    const plain = await open(path);
    plain.write(0, new Uint8Array(65536).fill(1));
    plain.close();
    const again = await open(path, { 'file.driver': 'blkdebug', 'file.inject-error.event': 'read_aio' });
    expect(failureOf(() => again.read(0, new Uint8Array(1)))).toBe('Input/output error');
    expect(failureOf(() => again.read(0, new Uint8Array(1)))).toBe('Input/output error');
    again.close();
    const loading = await open(`blkdebug::${path}`, {
      'file.inject-error.0.event': 'l2_load',
      'file.inject-error.0.errno': '28',
      'file.inject-error.0.once': 'on',
    });
    expect(failureOf(() => loading.read(0, new Uint8Array(1)))).toBe('No space left on device');
    expect(failureOf(() => loading.read(0, new Uint8Array(1)))).toBeNull();
    loading.close();
  });

  it('fails where it is asked what there is', async () => {
    const options = { 'file.driver': 'blkdebug', 'file.inject-error.event': 'none' };
    const rule = { 'file.inject-error.iotype': 'block-status', 'file.inject-error.sector': '4' };
    const node = await open(image(), { driver: 'raw', ...options, ...rule });
    expect(failureOf(() => node.status(0, 2048))).toBeNull();
    expect(failureOf(() => node.status(0, 2560))).toBe('Input/output error');
    expect(failureOf(() => node.read(0, new Uint8Array(4096)))).toBeNull();
    node.close();
  });

  it('takes rules from a file, with states', async () => {
    const path = image();
    const config = join(newFolder(), 'rules.conf');
    writeFileSync(
      config,
      '# first a write, then errors\n[set-state]\nstate = "1"\nevent = "write_aio"\nnew_state = "2"\n\n' +
        '[inject-error]\nevent = "read_aio"\nstate = "2"\nerrno = "5"\n',
    );
    const node = await open(`blkdebug:${config}:${path}`);
    node.write(0, new Uint8Array(512).fill(1));
    expect(failureOf(() => node.read(0, new Uint8Array(1)))).toBe('Input/output error');
    node.close();
    const fresh = await open(`blkdebug:${config}:${path}`);
    expect(failureOf(() => fresh.read(0, new Uint8Array(1)))).toBeNull();
    fresh.close();
  });

  it('fails only what touches its sector, and is of its kind', async () => {
    const path = image();
    const at = (iotype: string) =>
      open(`blkdebug::${path}`, {
        driver: 'raw',
        'file.inject-error.0.event': 'none',
        'file.inject-error.0.sector': '2',
        'file.inject-error.0.iotype': iotype,
      });
    const node = await at('read');
    expect(failureOf(() => node.read(0, new Uint8Array(1024)))).toBeNull();
    expect(failureOf(() => node.read(1000, new Uint8Array(100)))).toBe('Input/output error');
    expect(failureOf(() => node.write(65536 * 3, new Uint8Array(512)))).toBeNull();
    node.close();
    const writing = await at('write');
    expect(failureOf(() => writing.read(1024, new Uint8Array(512)))).toBeNull();
    writing.close();
  });

  it.each([
    [{ 'file.inject-error.0.errno': '5' }, 'Missing event name for rule'],
    [{ 'file.inject-error.0.event': 'tea_time' }, 'invalid parameter value: tea_time'],
    [{ 'file.inject-error.0.event': 'l2_load', 'file.inject-error.0.colour': 'red' }, "Invalid parameter 'colour'"],
  ])('refuses %j', async (options, message) => {
    await expect(open(`blkdebug::${image()}`, options)).rejects.toThrow(message);
  });

  it('leaves an image whose write failed as a crash would', async () => {
    const path = image();
    const node = await open(`blkdebug::${path}`, { 'file.inject-error.0.event': 'l2_update' });
    node.write(0, new Uint8Array(65536).fill(1));
    expect(failureOf(() => node.flush())).toBe('Input/output error');
    node.close();
    const after = await open(path);
    expect(after.status(0, MIB)).toMatchObject({ allocated: false });
    after.close();
  });
});
