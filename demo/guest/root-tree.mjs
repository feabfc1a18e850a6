/**
 * The guest's root file system as a folder on this machine: BusyBox, a link for each of its applets, and rootfs/.
 */
import {
  chmodSync,
  cpSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { GuestBuildError } from './build-error.mjs';

const FOLDERS = ['bin', 'dev', 'etc', 'mnt', 'proc', 'root', 'run', 'sbin', 'sys', 'tmp'];
const EXECUTABLES = ['bin/busybox', 'sbin/console-shell', 'etc/init.d/start', 'etc/init.d/stop'];
const IN_SBIN = new Set(['halt', 'init', 'poweroff', 'reboot']);

/**
 * @param {string} folder empty
 * @param {Buffer} busybox the program, linked statically
 */
export function makeRootTree(folder, busybox) {
  for (const name of FOLDERS) mkdirSync(join(folder, name), { recursive: true });
  cpSync(fileURLToPath(new URL('rootfs', import.meta.url)), folder, { recursive: true });
  writeFileSync(join(folder, 'bin/busybox'), busybox);
  for (const applet of applets(busybox)) {
    symlinkSync('/bin/busybox', join(folder, IN_SBIN.has(applet) ? 'sbin' : 'bin', applet));
  }
  // git and the person's umask don't keep these.
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    const path = join(folder, name);
    const stats = lstatSync(path);
    if (!stats.isSymbolicLink()) chmodSync(path, stats.isDirectory() ? 0o755 : 0o644);
  }
  for (const path of EXECUTABLES) chmodSync(join(folder, path), 0o755);
  chmodSync(join(folder, 'tmp'), 0o1777);
  chmodSync(join(folder, 'root'), 0o700);
}

/**
 * @param {Buffer} busybox
 * @returns {string[]} the names in applets.txt, each of which this BusyBox knows
 */
function applets(busybox) {
  const names = readFileSync(new URL('applets.txt', import.meta.url), 'utf8')
    .split(/\s+/)
    .filter((name) => name !== '');
  // The program keeps its applets' names as a list of strings that end in NUL.
  const unknown = names.filter((name) => !busybox.includes(`\0${name}\0`));
  if (unknown.length > 0) throw new GuestBuildError(`Debian's busybox-static has no applet ${unknown.join(', ')}`);
  return names;
}
