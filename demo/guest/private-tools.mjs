/**
 * The programs that make the guest's file systems, from Debian packages unpacked in our own folder: they are run from
 * there, with their own libraries.
 */
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { GuestBuildError } from './build-error.mjs';
import { runCommand } from './run-command.mjs';

const PROGRAM_FOLDERS = ['usr/sbin', 'usr/bin', 'sbin', 'bin'];
const LIBRARY_FOLDERS = ['usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu'];

/** What mke2fs, debugfs, mtools, syslinux and xz need that is not in every Debian. */
export const DISK_TOOL_PACKAGES = [
  'e2fsprogs',
  'libext2fs2',
  'libcom-err2',
  'libss2',
  'libblkid1',
  'libuuid1',
  'mtools',
  'syslinux',
  'xz-utils',
];

export class PrivateTools {
  #programFolders;
  /** The environment in which these programs find each other and their libraries. */
  environment;

  /** @param {readonly string[]} packageFolders */
  constructor(packageFolders) {
    this.#programFolders = existing(packageFolders, PROGRAM_FOLDERS);
    this.environment = {
      ...process.env,
      // English messages and plain bytes in names, whatever the person's locale.
      LC_ALL: 'C',
      PATH: [...this.#programFolders, process.env.PATH].join(delimiter),
      LD_LIBRARY_PATH: existing(packageFolders, LIBRARY_FOLDERS).join(delimiter),
      MTOOLS_SKIP_CHECK: '1',
      // No file of the person's own may change what the tools do.
      MTOOLSRC: '/dev/null',
      MKE2FS_CONFIG: '/dev/null',
    };
  }

  /**
   * @param {string} program
   * @param {readonly string[]} args
   * @param {{ input?: string }} [options]
   * @returns {string} its output
   */
  run(program, args, options = {}) {
    const folder = this.#programFolders.find((candidate) => existsSync(join(candidate, program)));
    if (!folder) throw new GuestBuildError(`none of the downloaded packages has the program ${program}`);
    return runCommand(join(folder, program), args, { ...options, env: this.environment });
  }
}

/** @param {readonly string[]} roots @param {readonly string[]} folders */
function existing(roots, folders) {
  return roots.flatMap((root) => folders.map((folder) => join(root, folder))).filter((folder) => existsSync(folder));
}
