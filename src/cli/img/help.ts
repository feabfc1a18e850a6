/** What `--help` and `--version` print. */
import { DRIVERS } from '../graph/drivers.js';
import { isCommandName, SYNTAX } from './command-table.js';

const OPTIONS: Readonly<Record<string, string>> = {
  '--object objectdef': 'defines a secret: secret,id=ID,data=TEXT or secret,id=ID,file=PATH',
  '--image-opts': 'file names are lists of options: driver=qcow2,file.filename=PATH',
  '-f fmt': 'format of the (first) image; it is found out without',
  '-O output_fmt': 'format of the new image; raw without',
  '-F': 'format of the backing file, or of the second image',
  '-o options': 'options of the format, name=value with commas between; -o help lists them',
  '-b': 'the backing file; in commit the image to commit to',
  '-B': 'the new image gets this backing file, and keeps what differs from it only',
  '-u': 'without looking at the backing file, or at what the images hold',
  '-t cache': 'none, writeback, writethrough, directsync or unsafe',
  '-T src_cache': 'the same for images that are read',
  '-p': 'shows progress; without it a SIGUSR1 asks for it',
  '-q': 'prints errors only',
  '-U': 'another program may have the image open',
  '-S': 'so many zeroes in a row are not stored (4k without; 0 stores all)',
  '-n': 'the target is there already',
  '-c': 'compressed',
  '--output=ofmt': 'human or json',
  '-r leaks': 'repairs what is lost space only; -r all repairs everything',
  '-l': 'a snapshot as source: its name or id, or snapshot.id=ID,snapshot.name=NAME',
};

const SIZES = 'Sizes are in bytes, or with a suffix: k, M, G, T, P, E, each 1024 times the one before.';

/** Of one command, or of the whole program. */
export function helpText(version: string, command: string | undefined): string {
  const first = command === undefined || !isCommandName(command) ? programHelp(version) : commandHelp(command);
  const formats = [...DRIVERS.keys()].sort().join(' ');
  return `${first}\n${SIZES}\n\nSupported formats: ${formats}\n`;
}

function programHelp(version: string): string {
  const commands = Object.values(SYNTAX).map((syntax) => `  ${syntax}\n`);
  const options = Object.entries(OPTIONS).map(([name, what]) => `  ${name.padEnd(20)} ${what}\n`);
  return [
    `qcow2-img version ${version}\n`,
    'usage: qcow2-img command [command options]\n',
    '       qcow2-img command --help\n',
    'Makes, changes, checks and copies qcow2 and raw images, as qemu-img of QEMU 7.2 does.\n\n',
    '  -h, --help           shows this help, or that of a command\n  -V, --version        shows the version\n\n',
    'Commands:\n',
    ...commands,
    '\nOptions that several commands have:\n',
    ...options,
  ].join('');
}

function commandHelp(command: keyof typeof SYNTAX): string {
  const syntax: string = SYNTAX[command];
  const known = Object.entries(OPTIONS).filter(([name]) => syntax.includes(name) || syntax.includes(`[${name} `));
  const options = known.map(([name, what]) => `  ${name.padEnd(20)} ${what}\n`);
  return [`usage: qcow2-img ${syntax}\n`, ...(options.length > 0 ? ['\n', ...options] : [])].join('');
}
