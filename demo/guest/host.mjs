/**
 * What the guest build asks of the machine it runs on: Debian 12 or newer on amd64, with apt-get and dpkg. Nothing is
 * installed or changed there, and root is not needed.
 */
import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { GIVE_YOUR_OWN_IMAGE, GuestBuildError } from './build-error.mjs';

const OLDEST_DEBIAN = 12;

/** @throws {GuestBuildError} that says why the guest can't be built here, and what to do instead */
export function requireDebianHost() {
  const reason = whyNotHere();
  if (reason) throw new GuestBuildError(`The demo guest can't be built here: ${reason}\n\n${GIVE_YOUR_OWN_IMAGE}`);
}

/** @returns {string | undefined} */
function whyNotHere() {
  if (process.platform !== 'linux') return `it is made of Debian packages, and this is ${process.platform}.`;
  if (process.arch !== 'x64') {
    return (
      `this machine is ${process.arch}, and Debian has the boot loader's installer (syslinux) and the ` +
      '32-bit x86 tools only for amd64.'
    );
  }
  const missing = missingCommands(['apt-get', 'apt-cache', 'dpkg', 'tar']);
  if (missing.length > 0) return `it is made of Debian packages, and there is no ${missing.join(', no ')}.`;
  const { ID: id = 'unknown', VERSION_ID: version = '' } = readOsRelease();
  // A testing or unstable Debian has no VERSION_ID, and is newer than what is asked for.
  if (id !== 'debian' || (version !== '' && Number(version) < OLDEST_DEBIAN)) {
    return `it needs Debian ${OLDEST_DEBIAN} or newer, and this is ${id} ${version}.`.replace(' .', '.');
  }
  return undefined;
}

/**
 * @param {readonly string[]} commands
 * @returns {string[]} those not found in PATH
 */
export function missingCommands(commands) {
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder !== '');
  return commands.filter((command) => !folders.some((folder) => isExecutable(join(folder, command))));
}

/** @param {string} path */
function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** @returns {Record<string, string>} */
function readOsRelease() {
  let text;
  try {
    text = readFileSync('/etc/os-release', 'utf8');
  } catch {
    return {};
  }
  /** @type {Record<string, string>} */
  const fields = {};
  for (const [, name, value] of text.matchAll(/^([A-Z_]+)="?(.*?)"?$/gm)) fields[name] = value;
  return fields;
}
