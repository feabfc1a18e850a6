/**
 * The default kernel: Debian's own for 32-bit PCs, with an initial RAM file system that holds the modules for the disk.
 */
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { GuestBuildError } from './build-error.mjs';
import { cpioArchive } from './cpio.mjs';
import { canonicalName, loadOrder, moduleDependencies } from './module-order.mjs';
import { withTemporaryFolder } from './temporary-folder.mjs';
import { packedKernel, withUnpackedKernel } from './unpacked-kernel.mjs';

/** The generic checksums come first: ext4 and the SCSI disk ask for them by algorithm, which no `depends=` tells. */
const MODULES = ['crc32c_generic', 'crct10dif_generic', 'crc64_rocksoft_generic', 'ata_piix', 'sd_mod', 'ext4'];

/** Not needed here, and slow in an emulator: together with `cryptomgr.notests` this saves about 7 seconds. */
const SKIPPED_INITCALLS = [
  'init_kprobe_trace',
  'load_system_certificate_list',
  'crypto_kdf108_init',
  'isapnp_init',
  'netns_bpf_init',
  'iosf_mbi_init',
  'msr_init',
  'init_encrypted',
  'digsig_init',
  'init_blk_tracer',
  'platform_keyring_init',
];

const SIGNATURE_MARK = Buffer.from('~Module signature appended~\n');
const SIGNATURE_INFO_BYTES = 12;

/**
 * @typedef {object} Kernel
 * @property {Buffer} image what the boot loader loads
 * @property {Buffer | null} initialRamFileSystem
 * @property {string} commandLine what this kernel needs besides the options of every guest
 */

/**
 * @param {object} options
 * @param {import('./debian-packages.mjs').DebianPackages} options.packages
 * @param {import('./private-tools.mjs').PrivateTools} options.tools
 * @param {string} options.cacheFolder
 * @param {Buffer} options.busybox
 * @returns {Kernel}
 */
export function packagedKernel({ packages, tools, cacheFolder, busybox }) {
  const folder = join(cacheFolder, 'packaged-kernel');
  if (!existsSync(folder)) extractKernel(packages, cacheFolder, folder);
  return {
    image: unpackKernel(readFileSync(join(folder, 'vmlinuz')), tools, cacheFolder),
    initialRamFileSystem: initialRamFileSystem(folder, busybox),
    commandLine: `loglevel=3 acpi=off nokaslr cryptomgr.notests initcall_blacklist=${SKIPPED_INITCALLS.join(',')}`,
  };
}

/**
 * Takes the kernel and the few modules out of the package, which is a hundred times larger.
 * @param {import('./debian-packages.mjs').DebianPackages} packages
 * @param {string} cacheFolder
 * @param {string} folder appears by a rename when all is in it
 */
function extractKernel(packages, cacheFolder, folder) {
  const name = packages.resolve('linux-image-686:i386', /^linux-image-\d.*-686$/);
  const [unpacked] = packages.fetch([name]);
  const version = name.slice('linux-image-'.length, name.indexOf(':'));
  const files = moduleFiles(join(unpacked, 'lib/modules', version));
  const order = loadOrder(MODULES, (needed) => moduleDependencies(readModule(files, needed)));
  withTemporaryFolder(cacheFolder, (temporary) => {
    const unfinished = join(temporary, 'kernel');
    mkdirSync(unfinished);
    copyFileSync(join(unpacked, 'boot', `vmlinuz-${version}`), join(unfinished, 'vmlinuz'));
    for (const module of order) copyFileSync(modulePath(files, module), join(unfinished, `${module}.ko`));
    renameSync(unfinished, folder);
  });
  packages.remove(name);
}

/**
 * The kernel as it lies in memory. Debian's is packed with xz, which an emulated processor takes six of a boot's fourteen seconds for.
 * @param {Buffer} bzImage
 * @param {import('./private-tools.mjs').PrivateTools} tools
 * @param {string} cacheFolder
 */
function unpackKernel(bzImage, tools, cacheFolder) {
  return withTemporaryFolder(cacheFolder, (folder) => {
    const path = join(folder, 'vmlinux');
    writeFileSync(`${path}.xz`, packedKernel(bzImage));
    // Behind the stream is its unpacked length, which is no part of it.
    tools.run('xz', ['--decompress', '--single-stream', `${path}.xz`]);
    return withUnpackedKernel(bzImage, readFileSync(path));
  });
}

/**
 * @param {string} folder
 * @returns {Map<string, string>} canonical module names to paths
 */
function moduleFiles(folder) {
  const paths = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.ko'));
  return new Map(paths.map((path) => [canonicalName(basename(path, '.ko')), join(folder, path)]));
}

/** @param {Map<string, string>} files @param {string} name */
function modulePath(files, name) {
  const path = files.get(name);
  if (!path) throw new GuestBuildError(`Debian's kernel package has no module ${name}, which the guest's disk needs`);
  return path;
}

/** @param {Map<string, string>} files @param {string} name */
function readModule(files, name) {
  return readFileSync(modulePath(files, name));
}

/**
 * @param {string} folder of extractKernel
 * @param {Buffer} busybox
 */
function initialRamFileSystem(folder, busybox) {
  const files = moduleFiles(folder);
  const order = loadOrder(MODULES, (name) => moduleDependencies(readModule(files, name)));
  const script = readFileSync(new URL('initramfs-init.sh', import.meta.url), 'utf8');
  const archive = cpioArchive([
    ...['bin', 'dev', 'lib', 'root'].map((path) => /** @type {const} */ ({ kind: 'folder', path })),
    { kind: 'device', path: 'dev/console', major: 5, minor: 1 },
    { kind: 'device', path: 'dev/null', major: 1, minor: 3, mode: 0o666 },
    { kind: 'file', path: 'bin/busybox', mode: 0o755, contents: busybox },
    { kind: 'link', path: 'bin/sh', target: 'busybox' },
    { kind: 'file', path: 'init', mode: 0o755, contents: script.replace('@MODULES@', order.join(' ')) },
    ...order.map((name) => {
      const contents = withoutSignature(readModule(files, name));
      return /** @type {const} */ ({ kind: 'file', path: `lib/${name}.ko`, contents });
    }),
  ]);
  return gzipSync(archive, { level: 9 });
}

/**
 * A module without Debian's signature: the guest has no use for it, and hashing each module costs it time.
 *
 *   | module | signature | ... signature length (4, big-endian) | mark |     the 12 bytes before the mark describe it
 *
 * @param {Buffer} module
 */
function withoutSignature(module) {
  const end = module.length - SIGNATURE_MARK.length;
  if (end < SIGNATURE_INFO_BYTES || !module.subarray(end).equals(SIGNATURE_MARK)) return module;
  return module.subarray(0, end - SIGNATURE_INFO_BYTES - module.readUInt32BE(end - 4));
}
