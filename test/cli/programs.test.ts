/** What a shell sees of the programs: help, messages, exit codes, and the ends of pipes. */
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { useBuiltPrograms } from '../support/programs.js';

const MIB = 2 ** 20;
const COMMANDS = [
  ...['amend', 'bench', 'bitmap', 'check', 'commit', 'compare', 'convert', 'create', 'dd', 'info', 'map', 'measure'],
  ...['rebase', 'resize', 'snapshot'],
];
const programs = useBuiltPrograms();
const img = (...args: string[]) => programs.run('qcow2-img', ...args);
const io = (...args: string[]) => programs.run('qcow2-io', ...args);
const ADVICE = "Try 'qemu-img --help' for more information\n";

describe('help', () => {
  test.each(COMMANDS)('qcow2-img %s --help says how it is used, and ends with 0', (command) => {
    const { code, out, err } = img(command, '--help');
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toContain(`usage: qcow2-img ${command} `);
  });

  test('that of qcow2-img has every command', () => {
    const { code, out } = img('--help');
    expect(code).toBe(0);
    for (const command of COMMANDS) expect(out).toMatch(new RegExp(`^ {2}${command} `, 'm'));
  });

  test('qcow2-io has one, and one for each of its commands', () => {
    expect(io('--help')).toMatchObject({ code: 0, err: '' });
    const { out } = io('-c', 'help');
    const commands = [...out.matchAll(/^(\w+) .*-- /gm)].map((match) => match[1] ?? '');
    expect(commands).toEqual(
      expect.arrayContaining(['read', 'write', 'discard', 'aio_write', 'map', 'reopen', 'quit']),
    );
    const each = io(...commands.flatMap((command) => ['-c', `help ${command}`])).out;
    for (const command of commands) expect(each).toMatch(new RegExp(`^${command} .*-- `, 'm'));
  });

  test('the version is that of the package', () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    expect(img('--version').out).toContain(`qcow2-img version ${version}`);
    expect(io('--version').out).toContain(`qcow2-io version ${version}`);
  });
});

describe('a command line that is wrong', () => {
  test.each([
    [['info', '--bogus'], `qemu-img: unrecognized option '--bogus'\n${ADVICE}`],
    [['create', '-f'], `qemu-img: missing argument for option '-f'\n${ADVICE}`],
    [['frobnicate'], `qemu-img: Command not found: frobnicate\n${ADVICE}`],
    [['info', 'missing'], "qemu-img: Could not open 'missing': Could not open 'missing': No such file or directory\n"],
    [
      ['create', '-q', '-f', 'qcow2', 'no/such/folder', '1M'],
      "qemu-img: no/such/folder: Could not create 'no/such/folder': No such file or directory\n",
    ],
  ])('%j is told in one message, and ends with 1', (args, err) => {
    expect(img(...args)).toEqual({ code: 1, out: '', err });
  });

  test('qcow2-io names an option it does not know, and a file it does not find', () => {
    expect(io('--bogus')).toMatchObject({ code: 1, err: "qemu-io: unrecognized option '--bogus'\n" });
    const err = "qemu-io: can't open device missing: Could not open 'missing': No such file or directory\n";
    expect(io('-c', 'read 0 512', 'missing')).toEqual({ code: 1, out: '', err });
  });
});

describe('a file that may only be read', () => {
  test('is not written by any command, which says so', () => {
    img('create', '-q', '-f', 'qcow2', 'disk', '1M');
    chmodSync(programs.path('disk'), 0o444);
    const before = readFileSync(programs.path('disk'));
    const reader = (...args: string[]) => programs.runAsReader('qcow2-img', ...args);
    const denied = "Could not open 'disk': Permission denied\n";
    for (const args of [
      ['resize', 'disk', '2M'],
      ['snapshot', '-c', 'one', 'disk'],
      ['amend', '-o', 'lazy_refcounts=on', 'disk'],
      ['check', '-r', 'all', 'disk'],
    ]) {
      const { code, err } = reader(...args);
      expect([code === 0, err], args.join(' ')).toEqual([
        false,
        expect.stringMatching(new RegExp(`^qemu-img: .*${denied}`)),
      ]);
    }
    const over = reader('create', '-q', '-f', 'qcow2', 'disk', '2M');
    expect(over).toMatchObject({ code: 1, err: "qemu-img: disk: Could not create 'disk': Permission denied\n" });
    const written = programs.runAsReader('qcow2-io', '-c', 'write 0 512', 'disk');
    expect(written).toMatchObject({ code: 1, err: `qemu-io: can't open device disk: ${denied}` });
    expect(Buffer.compare(readFileSync(programs.path('disk')), before)).toBe(0);
    expect(reader('info', 'disk')).toMatchObject({ code: 0, err: '' });
  });

  test('in a folder where nothing may be written, no image is made', () => {
    writeFileSync(programs.path('a.raw'), Buffer.alloc(MIB, 1));
    const { code, err } = programs.runAsReader('qcow2-img', 'convert', '-f', 'raw', '-O', 'qcow2', 'a.raw', 'b');
    expect([code, err]).toEqual([
      1,
      "qemu-img: b: error while converting qcow2: Could not create 'b': Permission denied\n",
    ]);
    expect(existsSync(programs.path('b'))).toBe(false);
  });
});

describe('a reader that goes away', () => {
  test.each(['$img --help', '$io --help', '$img map --output=json disk', '$io -c "read -v 0 1M" disk'])(
    '%s ends without a word, and not as a failure of its own',
    (command) => {
      img('create', '-q', '-f', 'qcow2', 'disk', '1M');
      const { code, out, err } = programs.shell(`${command} | true; echo "\${PIPESTATUS[0]}"`);
      expect({ code, out, err }).toEqual({ code: 0, out: '0\n', err: '' });
    },
  );
});

test('output that finds no room is an error with a message, not a trace', () => {
  img('create', '-q', '-f', 'qcow2', 'disk', '1M');
  for (const command of ['$img info disk', '$io -c "read -v 0 64k" disk']) {
    const { code, err } = programs.shell(`${command} > /dev/full`);
    expect([command, code]).toEqual([command, 1]);
    expect(err).toMatch(/^qemu-(img|io): .*No space left on device\n$/);
  }
});
