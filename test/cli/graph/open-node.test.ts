import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { chainStatus } from '../../../src/cli/graph/chain-status.js';
import { openProtocol } from '../../../src/cli/graph/open-node.js';
import { bytesOf, KeptConsole, newFolder, newImage, newRaw, open } from './images.js';

const MIB = 2 ** 20;

describe('opening a node', () => {
  it('looks at the first bytes where no driver is named', async () => {
    const folder = newFolder();
    const node = await open(newImage(folder, 'a.qcow2', { size: MIB }));
    expect([node.driver, node.file?.driver, node.size]).toEqual(['qcow2', 'file', MIB]);
    node.close();
  });

  it('warns of a raw image that was guessed, unless it is only read', async () => {
    const path = newRaw(newFolder(), 'a.raw', new Uint8Array(1024));
    const console = new KeptConsole();
    (await open(path, {}, { console, readOnly: true })).close();
    expect(console.messages).toBe('');
    (await open(path, { driver: 'raw' }, { console })).close();
    expect(console.messages).toBe('');
    (await open(path, {}, { console })).close();
    expect(console.messages).toContain(
      `WARNING: Image format was not specified for '${path}' and probing guessed raw.`,
    );
  });

  it('refuses a write that would make a guessed raw image one of another format', async () => {
    const node = await open(newRaw(newFolder(), 'a.raw', new Uint8Array(1024)));
    const magic = Buffer.from('514649fb00000003', 'hex');
    expect(() => node.write(0, magic)).toThrow('Operation not permitted');
    expect(() => node.write(4, magic.subarray(4))).not.toThrow();
    expect(() => node.write(0, magic.subarray(0, 4))).toThrow('Operation not permitted');
    expect(() => node.write(512, magic)).not.toThrow();
    node.close();
  });

  it('unfolds json: names, nested or dotted, and lets options beside them win', async () => {
    const folder = newFolder();
    const path = newImage(folder, 'a.qcow2', { size: MIB });
    const nested = await open(`json:{"driver":"qcow2","file":{"driver":"file","filename":"${path}"}}`);
    expect(nested.driver).toBe('qcow2');
    nested.close();
    const dotted = await open(`json:{'driver':'qcow2','file.filename':'${path}'}`, { driver: 'raw' });
    expect(dotted.driver).toBe('raw');
    dotted.close();
  });

  it('is shown by the name of its file, unless options make it another disk', async () => {
    const folder = newFolder();
    const path = newImage(folder, 'a.qcow2', { size: MIB });
    const nameOf = async (name: string | null, options: Readonly<Record<string, string>> = {}) => {
      const node = await open(name, options);
      node.close();
      return node.fileName;
    };
    expect(await nameOf(`file:${path}`)).toBe(path);
    expect(await nameOf(`json:{"driver":"qcow2","file.driver":"file","file.filename":"${path}"}`)).toBe(path);
    expect(await nameOf(path, { 'lazy-refcounts': 'on' })).toBe(path);
    expect(await nameOf(`blkdebug::${path}`)).toBe(`blkdebug::${path}`);
    const window = await nameOf(path, { driver: 'raw', offset: '512' });
    expect(JSON.parse(window.slice('json:'.length))).toEqual({
      driver: 'raw',
      offset: '512',
      file: { driver: 'file', filename: path },
    });
    const failing = await nameOf(`blkdebug::${path}`, { 'file.inject-error.event': 'l2_load' });
    expect(JSON.parse(failing.slice('json:'.length))).toEqual({
      driver: 'qcow2',
      file: { driver: 'blkdebug', 'inject-error.event': 'l2_load', image: { driver: 'file', filename: path } },
    });
    expect(await nameOf(failing)).toBe(failing);
  });

  it('uses at once what a discard has freed', async () => {
    const path = newImage(newFolder(), 'a.qcow2', { size: MIB });
    const node = await open(path, {}, { unmap: true });
    node.write(0, new Uint8Array(65536).fill(1));
    const { host } = node.status(0, 65536);
    node.discard(0, 65536);
    node.write(524288, new Uint8Array(65536).fill(2));
    expect(node.status(524288, 65536).host).toBe(host);
    node.close();
  });

  it('shows a backing file that is not the one that the image names', async () => {
    const folder = newFolder();
    const base = newImage(folder, 'base', { size: MIB });
    const other = newImage(folder, 'other', { size: MIB });
    const path = newImage(folder, 'a.qcow2', { size: MIB, backing: { name: 'base', format: 'qcow2' } });
    const nameWith = async (options: Readonly<Record<string, string>>) => {
      const node = await open(path, { driver: 'qcow2', ...options });
      node.close();
      return node.fileName;
    };
    expect(await nameWith({ 'backing.file.filename': base })).toBe(path);
    const name = await nameWith({ 'backing.file.filename': other });
    expect(JSON.parse(name.slice('json:'.length))).toMatchObject({
      backing: { driver: 'qcow2', file: { filename: other } },
    });
  });

  it.each([
    [{ driver: 'parchment' }, "Unknown driver 'parchment'"],
    [{ colour: 'red' }, "Block format 'qcow2' does not support the option 'colour'"],
    [{ 'file.colour': 'red' }, "Block protocol 'file' doesn't support the option 'colour'"],
    [{ filename: 'b', driver: 'file' }, "Can't specify 'file' and 'filename' options at the same time"],
    [{ file: 'node0' }, "Cannot find device='node0' nor node-name='node0'"],
    [{ 'read-only': 'perhaps' }, "Parameter 'read-only' expects 'on' or 'off'"],
    [{ 'detect-zeroes': 'often' }, "Parameter 'detect-zeroes' does not accept value 'often'"],
    [{ 'force-share': 'on' }, 'force-share=on can only be used with read-only images'],
    [{ 'data-file.filename': 'd' }, "'data-file' can only be set for images with an external data file"],
    [{ 'encrypt.format': 'luks' }, "No encryption in image header, but options specified format 'luks'"],
  ])("says in QEMU's words what is wrong with %j", async (options, message) => {
    const path = newImage(newFolder(), 'a.qcow2', { size: MIB });
    await expect(open(path, options)).rejects.toThrow(message);
  });

  it.each([
    ['/nonexistent', "Could not open '/nonexistent': No such file or directory"],
    ['/etc', "Could not open '/etc': Is a directory"],
    ['gopher:image', "Unknown protocol 'gopher'"],
    ['json:{', 'Could not parse the JSON options: JSON parse error, premature EOI'],
    ['json:[1]', 'Invalid JSON object given'],
    ['json:{}', 'Must specify either driver or file'],
    ['json:{"driver":"raw"}', 'A block device must be specified for "file"'],
  ])("says in QEMU's words what is wrong with %s", async (name, message) => {
    await expect(open(name)).rejects.toThrow(message);
  });

  it('opens a part of a file as a raw disk', async () => {
    const path = newRaw(
      newFolder(),
      'a.raw',
      Uint8Array.from({ length: 4096 }, (_, index) => index >> 9),
    );
    const node = await open(path, { driver: 'raw', offset: '1024', size: '1k' });
    expect(node.size).toBe(1024);
    expect(bytesOf(node, 512, 2)).toEqual([3, 3]);
    node.write(0, Uint8Array.of(9));
    node.close();
    expect(readFileSync(path)[1024]).toBe(9);
    await expect(open(path, { driver: 'raw', offset: '4k', size: '512' })).rejects.toThrow('sum of offset and size');
  });

  it('rounds the size of a file up to whole sectors, which end in zeroes', async () => {
    const node = await open(newRaw(newFolder(), 'a.raw', Uint8Array.of(1, 2, 3)), { driver: 'raw' });
    expect(node.size).toBe(512);
    expect(bytesOf(node, 2, 3)).toEqual([3, 0, 0]);
    node.close();
  });

  it('opens the protocol alone for who wants the bytes of an image', async () => {
    const path = newImage(newFolder(), 'a.qcow2', { size: MIB });
    const node = await openProtocol({ fileName: path }, { console: new KeptConsole(), readOnly: true });
    expect([node.driver, bytesOf(node, 0, 3)]).toEqual(['file', [0x51, 0x46, 0x49]]);
    node.close();
  });
});

describe('a chain', () => {
  const chain = () => {
    const folder = newFolder();
    newRaw(folder, 'base.raw', new Uint8Array(MIB).fill(7));
    newImage(folder, 'middle.qcow2', { size: 2 * MIB, backing: { name: 'base.raw', format: 'raw' } });
    return newImage(folder, 'top.qcow2', { size: 2 * MIB, backing: { name: 'middle.qcow2', format: 'qcow2' } });
  };

  it('is opened to its end, names being relative to the image', async () => {
    const node = await open(chain());
    expect([node.backing?.driver, node.backing?.backing?.driver]).toEqual(['qcow2', 'raw']);
    expect(bytesOf(node, MIB - 1, 2)).toEqual([7, 0]);
    expect([node.backing?.readOnly, node.readOnly]).toEqual([true, false]);
    node.close();
  });

  it('says which of its nodes answers', async () => {
    const node = await open(chain());
    node.write(65536, new Uint8Array(65536).fill(1));
    const at = (offset: number) => {
      const { length, depth, allocated, data, zero } = chainStatus(node, { offset, length: node.size - offset });
      return { length, depth, allocated, data, zero };
    };
    expect(at(0)).toEqual({ length: 65536, depth: 2, allocated: true, data: true, zero: false });
    expect(at(65536)).toEqual({ length: 65536, depth: 0, allocated: true, data: true, zero: false });
    expect(at(MIB)).toMatchObject({ data: false, zero: true });
    node.close();
  });

  it('is told of with the file that is missing', async () => {
    const folder = newFolder();
    const path = newImage(folder, 'top.qcow2', { size: MIB, backing: { name: 'gone.qcow2', format: 'qcow2' } });
    const missing = join(folder, 'gone.qcow2');
    await expect(open(path)).rejects.toThrow(
      `Could not open backing file: Could not open '${missing}': No such file or directory`,
    );
    const alone = await open(path, {}, { noBacking: true });
    expect(alone.backing).toBeNull();
    alone.close();
  });

  it('ends where options say so, or goes on elsewhere', async () => {
    const path = chain();
    const other = newRaw(newFolder(), 'other.raw', new Uint8Array(MIB).fill(9));
    const cut = await open('json:' + JSON.stringify({ driver: 'qcow2', backing: null, file: { filename: path } }));
    expect(cut.backing).toBeNull();
    cut.close();
    const turned = await open(path, { 'backing.driver': 'raw', 'backing.file.filename': other });
    expect(bytesOf(turned, 0, 1)).toEqual([9]);
    turned.close();
  });
});

describe('an open node', () => {
  it('is reopened for reading alone and back', async () => {
    const path = newImage(newFolder(), 'a.qcow2', { size: MIB });
    const node = await open(path);
    node.write(0, Uint8Array.of(5));
    node.reopen({ readOnly: true, options: new Map() });
    expect(() => node.write(0, Uint8Array.of(6))).toThrow(/read-only/);
    node.reopen({ readOnly: false, options: new Map() });
    node.write(1, Uint8Array.of(6));
    expect(bytesOf(node, 0, 2)).toEqual([5, 6]);
    node.close();
  });

  it('stays as it was when options at a reopen can not be', async () => {
    const node = await open(newImage(newFolder(), 'a.qcow2', { size: MIB }), { 'lazy-refcounts': 'on' });
    const reopen = (options: Record<string, string>) =>
      node.reopen({ readOnly: false, options: new Map(Object.entries(options)) });
    expect(() => reopen({ 'lazy-refcounts': 'off', 'overlap-check': 'blubb' })).toThrow("Unsupported value 'blubb'");
    expect(() => reopen({ driver: 'raw' })).toThrow("Cannot change the option 'driver'");
    expect(() => reopen({ 'file.driver': 'qcow2' })).toThrow("Cannot change the option 'driver'");
    expect(() => reopen({ driver: 'qcow2', 'file.driver': 'file' })).not.toThrow();
    expect(node.image?.lazyRefcounts).toBe(true);
    reopen({ 'lazy-refcounts': 'off' });
    expect(node.image?.lazyRefcounts).toBe(false);
    node.close();
  });

  it('copies what it reads from below, when it is to', async () => {
    const folder = newFolder();
    newRaw(folder, 'base.raw', new Uint8Array(MIB).fill(7));
    const path = newImage(folder, 'a.qcow2', { size: MIB, backing: { name: 'base.raw', format: 'raw' } });
    const node = await open(path, {}, { copyOnRead: true });
    expect(node.status(0, MIB)).toMatchObject({ allocated: false });
    expect(bytesOf(node, 10, 1)).toEqual([7]);
    expect(node.status(0, MIB)).toMatchObject({ allocated: true, length: 65536 });
    node.close();
  });

  it('writes no zeroes where they are detected', async () => {
    const node = await open(newImage(newFolder(), 'a.qcow2', { size: MIB }), { 'detect-zeroes': 'on' });
    node.write(0, new Uint8Array(65536));
    expect(node.status(0, 65536)).toMatchObject({ data: false, zero: true });
    node.close();
  });

  it('can not be opened for writing where the file can not', async () => {
    const path = newImage(newFolder(), 'a.qcow2', { size: MIB });
    chmodSync(path, 0o444);
    if (process.getuid?.() === 0) return; // root may write all
    await expect(open(path)).rejects.toThrow(`Could not open '${path}': Permission denied`);
  });
});
