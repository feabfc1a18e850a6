/** `help`: all commands by one line each, or one with its options. */
import type { IoCommand } from './command.js';

/** The command for those of a table, itself among them. */
export function helpCommandFor(commands: () => readonly IoCommand[]): IoCommand {
  return {
    name: 'help',
    shortName: '?',
    atMost: 1,
    withoutFile: true,
    usage: '[command]',
    summary: 'lists the commands, or explains one',
    run(session, args) {
      const name = args[0];
      if (name === undefined) {
        for (const command of commands()) session.console.out(oneLine(command.name, command));
        session.console.out("\nUse 'help commandname' for extended help.\n");
        return 'ok';
      }
      const command = commands().find((known) => known.name === name || known.shortName === name);
      if (command === undefined) {
        session.console.out(`command ${name} not found\n`);
        return 'failed';
      }
      session.console.out(oneLine(name, command) + (command.help ?? ''));
      return 'ok';
    },
  };
}

function oneLine(name: string, { usage, summary }: IoCommand): string {
  return `${name} ${usage === undefined ? '' : `${usage} `}-- ${summary}\n`;
}

/** `--help` of the program. */
export function usageText(): string {
  return `Usage: qcow2-io [OPTIONS]... [-c STRING]... [file]
Reads and writes a disk image by hand

  --object OBJECTDEF   define a secret: 'secret,id=...,data=...'
  --image-opts         the file is a list of options
  -c, --cmd STRING     run a command; there may be several
  -f, --format FMT     the image's format: qcow2 or raw
  -r, --read-only      open for reading alone
  -s, --snapshot       changes are lost at the end
  -n, --nocache        short for -t none
  -C, --copy-on-read   what is read from the backing file is written to the image
  -m, --misalign       no effect
  -k, --native-aio     no effect
  -i, --aio=MODE       no effect (threads, native or io_uring)
  -t, --cache=MODE     cache mode: none, writeback, writethrough, directsync or unsafe
  -d, --discard=MODE   unmap, or ignore
  -T, --trace OPTIONS  no effect
  -U, --force-share    whatever another program does to the file
  -h, --help           this help
  -V, --version        the version

'qcow2-io -c help' lists the commands.
`;
}
