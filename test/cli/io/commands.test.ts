import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { Secrets } from '../../../src/cli/graph/secrets.js';
import { COMMANDS, runLine } from '../../../src/cli/io/command-table.js';
import { Session } from '../../../src/cli/io/session.js';
import { KeptConsole, newFolder, newImage, newRaw } from '../graph/images.js';

const MIB = 2 ** 20;
const RATES = /\d+ ops; [\d:. sec]+ \([\d.inf]+ [A-Za-z]+\/sec and [\d.inf]+ ops\/sec\)/g;

let console: KeptConsole;
let session: Session;

beforeEach(() => {
  console = new KeptConsole();
  session = new Session({ console, secrets: new Secrets(), imageOpts: false });
});

/** Runs the lines; what they print on stdout, without the times. */
async function run(...lines: readonly string[]): Promise<string> {
  for (const line of lines) await runLine(session, line);
  return console.take().replaceAll(RATES, 'X ops');
}

const open = (path: string) => runLine(session, `open ${path}`);
const image = (name = 'a.qcow2') => newImage(newFolder(), name, { size: 16 * MIB });

describe('read and write', () => {
  beforeEach(() => open(image()));

  it('say how much they have moved, as qemu-io does', async () => {
    expect(await run('write -P 0xa 0 64k', 'read -P 10 0 64k')).toBe(
      'wrote 65536/65536 bytes at offset 0\n64 KiB, X ops\nread 65536/65536 bytes at offset 0\n64 KiB, X ops\n',
    );
    expect(await run('writev -q 1M 1k 512', 'readv 1M 1536')).toBe(
      'read 1536/1536 bytes at offset 1048576\n1.500 KiB, X ops\n',
    );
  });

  it('say where a pattern is not what was read, and fail', async () => {
    expect(await runLine(session, 'read -P 1 -s 512 -l 100 4096 1k')).toBe('failed');
    expect(console.take()).toContain('Pattern verification failed at offset 4608, 100 bytes\n');
    expect(await runLine(session, 'read -q -P 0 0 1k')).toBe('ok');
  });

  it('show bytes', async () => {
    await run('write -q -P 0x41 0 512');
    expect(await run('read -v 496 18')).toBe(
      '000001f0:  41 41 41 41 41 41 41 41 41 41 41 41 41 41 41 41  AAAAAAAAAAAAAAAA\n' +
        '00000200:  00 00  ..\nread 18/18 bytes at offset 496\n18 bytes, X ops\n',
    );
  });

  it('write zeroes, compressed clusters, VM state and the content of a file', async () => {
    const pattern = join(newFolder(), 'pattern');
    writeFileSync(pattern, 'abc');
    const lines = ['write -q 0 1M', 'write -q -z -u 0 64k', 'write -q -c -P 3 64k 64k', 'write -q -b -P 4 0 1k'];
    expect(await run(...lines, `write -q -s ${pattern} 128k 5`, 'read -v 128k 5')).toContain('61 62 63 61 62  abcab');
    expect(
      await run('read -q -P 0 0 64k', 'read -q -P 3 64k 64k', 'read -q -b -P 4 0 1k', 'read -q -P 0xcd 129k 1k'),
    ).toBe('');
    expect(session.node!.status(64 * 1024, 65536)).toMatchObject({ compressed: true });
  });

  it.each([
    ['read 16M 512', 'read failed: Input/output error\n'],
    ['write 16M 512', 'write failed: Input/output error\n'],
    ['read 9E 512', 'Parsing error: argument too large -- 9E\n'],
    ['read 7E 512', 'read failed: Input/output error\n'],
    ['read x 512', 'Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- x\n'],
    ['read 0 2G', 'length cannot exceed 2147483136, given 2G\n'],
    ['write 0 2G', 'length cannot exceed 2147483136 without -n, given 2G\n'],
    ['read -P 256 0 1', '256 is not a valid pattern byte\n'],
    ['read -P 1 -s 2 -l 2 0 3', 'pattern verification range exceeds end of read data\n'],
    ['read -b 1 512', "1 is not a sector-aligned value for 'offset'\n"],
    ['write -c 0 1', "1 is not a sector-aligned value for 'count'\n"],
    ['write -c 512 512', 'write failed: Invalid argument\n'],
    ['write -z -P 1 0 1', 'Only one of -z, -P, and -s can be specified at the same time\n'],
    ['write -u 0 1', '-u requires -z to be specified\n'],
    ['write -n 0 1', '-n requires -z to be specified\n'],
    ['write -z -n 1 512', 'write failed: Operation not supported\n'],
    ['write -b -z 0 512', '-b and -z cannot be specified at the same time\n'],
    ['write -f -c 0 512', '-f and -b or -c cannot be specified at the same time\n'],
    ['readv 0 2G', "Argument '2G' exceeds maximum size 2147483136\n"],
    ['discard 16M 1', 'discard failed: Input/output error\n'],
    ['read -l 1 0 1', `read ${usageOf('read')} -- reads a range\n`],
  ])('answer "%s"', async (line, answer) => {
    expect(await runLine(session, line)).toBe('failed');
    expect(console.take()).toBe(answer);
  });

  it('report in one line for programs', async () => {
    expect(await run('write -C 0 1k')).toMatch(/^1024,1,0:00:0\d\.\d\d,[\d.]+,[\d.]+\n$/);
  });
});

function usageOf(name: string): string {
  return COMMANDS.find((command) => command.name === name)?.usage ?? '';
}

describe('requests beside the commands', () => {
  beforeEach(() => open(image()));

  it('tell of their end when they are waited for', async () => {
    expect(await run('aio_write -P 1 0 64k', 'aio_read -P 2 0 1k')).toBe('');
    expect(await run('aio_flush')).toBe(
      'wrote 65536/65536 bytes at offset 0\n64 KiB, X ops\n' +
        'Pattern verification failed at offset 0, 1024 bytes\nread 1024/1024 bytes at offset 0\n1 KiB, X ops\n',
    );
  });

  it('tell of it before the next command that does I/O does', async () => {
    expect(await run('aio_write -z 0 64k', 'read -q 0 1')).toBe('wrote 65536/65536 bytes at offset 0\n64 KiB, X ops\n');
    expect(await run('aio_read 16M 1', 'aio_write 16M 1', 'aio_flush')).toBe(
      'readv failed: Input/output error\naio_write failed: Input/output error\n',
    );
  });
});

describe('breakpoints', () => {
  beforeEach(() => open(`blkdebug::${image()}`));

  it('hold a request back, and those behind it, until it is resumed', async () => {
    expect(
      await run('break write_aio A', 'aio_write -P 1 0 64k', 'wait_break A', 'aio_write -P 2 0 1k', 'aio_flush'),
    ).toBe("blkdebug: Suspended request 'A'\n");
    expect(await run('read -q -P 0 0 64k')).toBe('');
    expect(await run('resume A', 'aio_flush')).toBe(
      "blkdebug: Resuming request 'A'\nwrote 65536/65536 bytes at offset 0\n64 KiB, X ops\n" +
        'wrote 1024/1024 bytes at offset 0\n1 KiB, X ops\n',
    );
    expect(await run('read -q -P 2 0 1k', 'read -q -P 1 1k 63k')).toBe('');
  });

  it('are of no use where nobody stops, and told so', async () => {
    expect(await run('resume B', 'remove_break B', 'wait_break B', 'break l2_load B')).toBe(
      'Could not resume request: No such file or directory\n' +
        'Could not remove breakpoint B: No such file or directory\n' +
        'No request is suspended as B\n' +
        'Could not set breakpoint: Operation not supported\n',
    );
    expect(await run('break read_aio A', 'remove_break A', 'aio_read -q 0 1', 'aio_flush')).toBe('');
  });

  it('let what is still held back end when the file is closed', async () => {
    expect(await run('break write_aio A', 'aio_write -q -P 1 0 64k', 'close')).toBe(
      "blkdebug: Suspended request 'A'\n",
    );
  });
});

describe('what there is to know', () => {
  it('length, alloc, map and info', async () => {
    await open(image());
    await run('write -q 64k 128k');
    expect(await run('length')).toBe('16 MiB\n');
    expect(await run('alloc 0 256k', 'alloc 64k')).toBe(
      '131072/262144 bytes allocated at offset 0 bytes\n512/512 bytes allocated at offset 64 KiB\n',
    );
    expect(await run('map')).toBe(
      '64 KiB (0x10000) bytes not allocated at offset 0 bytes (0x0)\n' +
        '128 KiB (0x20000) bytes     allocated at offset 64 KiB (0x10000)\n' +
        '15.812 MiB (0xfd0000) bytes not allocated at offset 192 KiB (0x30000)\n',
    );
    expect(await run('info')).toMatch(
      /^format name: qcow2\ncluster size: 64 KiB\nvm state offset: 512 MiB\nFormat specific/,
    );
  });

  it('truncate changes the length', async () => {
    await open(image());
    expect(await run('truncate 32M', 'length', 'truncate 1M', 'length')).toBe('32 MiB\n1 MiB\n');
    expect(await runLine(session, 'truncate -m halfway 1M')).toBe('failed');
    expect(console.messages).toBe("qemu-io: Invalid preallocation mode 'halfway'\n");
  });
});

describe('open and close', () => {
  it('say what can not be opened', async () => {
    expect(await runLine(session, 'open /nonexistent')).toBe('failed');
    await open(image());
    await open('/another');
    expect(console.messages).toBe(
      "qemu-io: can't open device /nonexistent: Could not open '/nonexistent': No such file or directory\n" +
        "qemu-io: file open already, try 'help close'\n",
    );
  });

  it('keep a file that is only read from being written', async () => {
    await runLine(session, `open -r ${image()}`);
    for (const line of ['write 0 1', 'discard 0 1', 'truncate 1M', 'aio_write 0 1']) {
      expect(await runLine(session, line)).toBe('failed');
    }
    expect(console.messages).toBe('qemu-io: Block node is read-only\n'.repeat(4));
    await run('reopen -w');
    expect(await run('write -q 0 1')).toBe('');
  });

  it('lose what was changed over a snapshot', async () => {
    const path = newRaw(newFolder(), 'a.raw', new Uint8Array(MIB));
    await runLine(session, `open -s -o driver=raw ${path}`);
    expect(await run('write -q -P 1 0 1k', 'read -q -P 1 0 1k', 'close')).toBe('');
    expect(readFileSync(path).every((byte) => byte === 0)).toBe(true);
  });

  it('bring every write to the file at once where the cache mode says so', async () => {
    const firstL1Entry = (path: string) => {
      const bytes = readFileSync(path);
      return bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(40)));
    };
    for (const [mode, written] of [
      ['writethrough', true],
      ['writeback', false],
    ] as const) {
      const path = image();
      await runLine(session, `open -t ${mode} ${path}`);
      await run('write -q 0 64k');
      expect(firstL1Entry(path) !== 0n, mode).toBe(written);
      await run('close');
      expect(firstL1Entry(path)).not.toBe(0n);
    }
  });

  it('need a file for most commands', async () => {
    expect(await runLine(session, 'read 0 1')).toBe('failed');
    expect(await runLine(session, 'frobnicate')).toBe('failed');
    expect(await runLine(session, '   ')).toBe('ok');
    expect(console.messages).toBe('no file open, try \'help open\'\ncommand "frobnicate" not found\n');
  });

  it('count arguments', async () => {
    await open(image());
    await run('read 0', 'length 1', 'alloc 1 2 3', 'sleep');
    expect(console.messages).toBe(
      'bad argument count 1 to read, expected at least 2 arguments\n' +
        'bad argument count 1 to length, expected 0 arguments\n' +
        'bad argument count 3 to alloc, expected between 1 and 2 arguments\n' +
        'bad argument count 0 to sleep, expected 1 arguments\n',
    );
  });

  it('refuse options that contradict each other at a reopen', async () => {
    await open(image());
    await run('reopen -r -w', 'reopen -r -o read-only=on', 'reopen -c none -o cache.direct=on', 'reopen -c odd');
    expect(console.messages).toBe(
      'qemu-io: Only one -r/-w option may be given\n' +
        "qemu-io: Cannot set both -r/-w and 'read-only'\n" +
        'qemu-io: Cannot set both -c and the cache options\n' +
        'qemu-io: Invalid cache option: odd\n',
    );
  });
});

describe('help', () => {
  it('has a line for each command, and more for each that takes options', async () => {
    const all = await run('help');
    expect(all).toContain('read [-abCqv] [-P pattern [-s off] [-l len]] off len -- reads a range');
    expect(all.trimEnd().split('\n')).toHaveLength(COMMANDS.length + 2);
    expect(await run('? w')).toMatch(/^w \[-bcCfnquz\]/);
    expect(await run('help frobnicate')).toBe('command frobnicate not found\n');
  });
});
