/**
 * The trimmed kernel: Linux from Debian's source package, with only what this guest needs (trimmed-kernel.config). It has
 * the disk and ext4 built in, so there is no initial RAM file system. Compiling takes minutes; the result is kept.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { GuestBuildError } from './build-error.mjs';
import { missingCommands } from './host.mjs';
import { PrivateTools } from './private-tools.mjs';
import { runCommand } from './run-command.mjs';
import { withTemporaryFolder } from './temporary-folder.mjs';

const SOURCE = 'linux-source-6.1';
const CONFIGURATION = fileURLToPath(new URL('trimmed-kernel.config', import.meta.url));
/** What compiling needs, and the Debian package that has it. */
const HOST_COMMANDS = { gcc: 'gcc libc6-dev', make: 'make', bc: 'bc', xz: 'xz-utils', lz4: 'lz4', perl: 'perl' };
const TOOL_PACKAGES = ['flex', 'bison', 'm4', 'libsigsegv2'];

/**
 * @param {{ packages: import('./debian-packages.mjs').DebianPackages, cacheFolder: string }} options
 * @returns {import('./packaged-kernel.mjs').Kernel}
 */
export function trimmedKernel({ packages, cacheFolder }) {
  const digest = createHash('sha256').update(readFileSync(CONFIGURATION)).digest('hex').slice(0, 12);
  const image = join(cacheFolder, `trimmed-kernel-${digest}`);
  if (!existsSync(image)) {
    requireCompiler();
    compile(packages, cacheFolder, image);
  }
  return { image: readFileSync(image), initialRamFileSystem: null, commandLine: '' };
}

function requireCompiler() {
  const missing = missingCommands(Object.keys(HOST_COMMANDS));
  if (missing.length === 0) return;
  const debianPackages = missing.map((command) => HOST_COMMANDS[command]).join(' ');
  throw new GuestBuildError(
    `The trimmed kernel is compiled here, and these are missing: ${missing.join(', ')}.\n` +
      `Install them (apt-get install ${debianPackages}) or build the guest without --trimmed.`,
  );
}

/**
 * @param {import('./debian-packages.mjs').DebianPackages} packages
 * @param {string} cacheFolder
 * @param {string} image where the kernel goes
 */
function compile(packages, cacheFolder, image) {
  const folders = packages.fetch(TOOL_PACKAGES);
  const [source] = packages.fetch([SOURCE]);
  const tools = new PrivateTools(folders);
  const [, bison, m4] = folders;
  const env = {
    ...tools.environment,
    BISON_PKGDATADIR: join(bison, 'usr/share/bison'),
    M4: join(m4, 'usr/bin/m4'),
    // The same source gives the same kernel, wherever and whenever it is compiled.
    KBUILD_BUILD_TIMESTAMP: '2024-01-01',
    KBUILD_BUILD_USER: 'guest',
    KBUILD_BUILD_HOST: 'guest',
  };
  withTemporaryFolder(cacheFolder, (folder) => {
    runCommand('tar', ['-C', folder, '-xf', join(source, 'usr/src', `${SOURCE}.tar.xz`)]);
    const cwd = join(folder, SOURCE);
    const make = (/** @type {string[]} */ ...args) => runCommand('make', ['-s', 'ARCH=i386', ...args], { cwd, env });
    make('tinyconfig');
    runCommand('scripts/kconfig/merge_config.sh', ['-m', '-O', '.', '.config', CONFIGURATION], { cwd, env });
    make('olddefconfig');
    make(`-j${availableParallelism()}`, 'bzImage');
    renameSync(join(cwd, 'arch/x86/boot/bzImage'), image);
  });
}
