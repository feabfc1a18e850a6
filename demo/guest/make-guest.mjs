/**
 * `npm run guest`: builds the demo's guest, demo/guest/linux.qcow2, and its BIOS files from Debian packages.
 *
 *   npm run guest                    Debian's own kernel: built in under a minute
 *   npm run guest -- --trimmed       a kernel made for this guest: boots in seconds, costs minutes of compiling
 *
 * Nothing on the machine is changed and root is not needed: packages are unpacked in demo/guest/.cache, and what is
 * built there appears under its final name only when it is whole.
 */
import { copyFileSync, mkdirSync, readFileSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { GuestBuildError } from './build-error.mjs';
import { DebianPackages } from './debian-packages.mjs';
import { requireDebianHost } from './host.mjs';
import { packagedKernel } from './packaged-kernel.mjs';
import { DISK_BYTES, makePartitions, syslinuxBootCode } from './partitions.mjs';
import { DISK_TOOL_PACKAGES, PrivateTools } from './private-tools.mjs';
import { makeRootTree } from './root-tree.mjs';
import { withTemporaryFolder } from './temporary-folder.mjs';
import { trimmedKernel } from './trimmed-kernel.mjs';

const GUEST_FOLDER = fileURLToPath(new URL('.', import.meta.url));
const CACHE_FOLDER = join(GUEST_FOLDER, '.cache');
const IMAGE_PATH = join(GUEST_FOLDER, 'linux.qcow2');
const BIOS_FOLDER = join(GUEST_FOLDER, 'bios');
const BIOS_FILES = ['bios.bin', 'vgabios-stdvga.bin'];

/** @param {{ trimmed: boolean }} options */
async function makeGuest({ trimmed }) {
  requireDebianHost();
  await buildEngine();
  const packages = new DebianPackages(CACHE_FOLDER);

  say('Fetching Debian packages ...');
  const [seabios, syslinuxCommon, busyboxPackage, ...toolFolders] = packages.fetch([
    'seabios',
    'syslinux-common',
    'busybox-static:i386',
    ...DISK_TOOL_PACKAGES,
  ]);
  installBios(join(seabios, 'usr/share/seabios'));
  const busybox = readFileSync(join(busyboxPackage, 'bin/busybox'));
  const tools = new PrivateTools(toolFolders);

  say(trimmed ? 'Building the trimmed kernel (minutes) ...' : "Fetching Debian's kernel ...");
  const kernel = trimmed
    ? trimmedKernel({ packages, cacheFolder: CACHE_FOLDER })
    : packagedKernel({ packages, tools, cacheFolder: CACHE_FOLDER, busybox });

  say('Making the disk ...');
  const { writeQcow2 } = await import('./qcow2-writer.mjs');
  withTemporaryFolder(CACHE_FOLDER, (folder) => {
    const rootTree = join(folder, 'root');
    makeRootTree(rootTree, busybox);
    const bootCode = syslinuxBootCode(syslinuxCommon);
    const pieces = makePartitions({ tools, kernel, rootTree, bootCode, folder });
    writeQcow2(IMAGE_PATH, DISK_BYTES, pieces);
  });
  say(`demo/guest/linux.qcow2: ${(statSync(IMAGE_PATH).size / 1e6).toFixed(1)} MB`);
}

/** The disk is written by this project's own engine. */
async function buildEngine() {
  try {
    const { build } = await import('../../scripts/build.mjs');
    await build({ types: false });
  } catch (error) {
    throw new GuestBuildError(`The engine, which writes the disk, could not be built:\n${error.message}`, {
      cause: error,
    });
  }
}

/** @param {string} source folder of the SeaBIOS package */
function installBios(source) {
  mkdirSync(BIOS_FOLDER, { recursive: true });
  for (const name of BIOS_FILES) {
    const unfinished = join(BIOS_FOLDER, `${name}.unfinished`);
    copyFileSync(join(source, name), unfinished);
    renameSync(unfinished, join(BIOS_FOLDER, name));
  }
}

/** @param {string} text */
function say(text) {
  process.stdout.write(`${text}\n`);
}

function parseCommandLine() {
  try {
    return parseArgs({ options: { trimmed: { type: 'boolean', default: false } } }).values;
  } catch (error) {
    throw new GuestBuildError(`${error.message}\nUsage: npm run guest [-- --trimmed]`, { cause: error });
  }
}

try {
  const { trimmed } = parseCommandLine();
  await makeGuest({ trimmed });
} catch (error) {
  process.stderr.write(`${error instanceof GuestBuildError ? error.message : error.stack}\n`);
  process.exitCode = 1;
}
