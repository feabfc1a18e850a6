/**
 * The guest's disk, as pieces to be put at their offsets:
 *
 *     0            1 MiB                    21 MiB                              117 MiB
 *    +-----+------+------------------------+-----------------------------------+
 *    | MBR | free | FAT16: SYSLINUX,       | ext4: the root file system        |
 *    |     |      | kernel, initial RAM FS |                                   |
 *    +-----+------+------------------------+-----------------------------------+
 *
 * The two file systems are made as sparse files of their own, without root and without mounting anything.
 */
import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { masterBootRecord, SECTOR_BYTES } from './mbr.mjs';

const MEBIBYTE = 1024 * 1024;
const BOOT_OFFSET_BYTES = 1 * MEBIBYTE;
const BOOT_BYTES = 20 * MEBIBYTE;
const ROOT_OFFSET_BYTES = BOOT_OFFSET_BYTES + BOOT_BYTES;
const ROOT_BYTES = 96 * MEBIBYTE;
const ROOT_INODES = 8192;

const TYPE_FAT16_LBA = 0x0e;
const TYPE_LINUX = 0x83;
/** Fixed, so that two builds give the same disk as far as possible. */
const DISK_ID = 0x71636f77;
const ROOT_UUID = '71636f77-0000-4000-8000-000000000002';

/** Both consoles get the kernel's messages; the last named is /dev/console. */
const COMMAND_LINE =
  'console=tty0 console=ttyS0 root=/dev/sda2 rootfstype=ext4 rw quiet tsc=reliable mitigations=off random.trust_cpu=on';

export const DISK_BYTES = ROOT_OFFSET_BYTES + ROOT_BYTES;

/** @typedef {{ offsetBytes: number, path: string }} DiskPiece a file whose contents belong at an offset of the disk */

/**
 * @param {object} options
 * @param {import('./private-tools.mjs').PrivateTools} options.tools
 * @param {import('./packaged-kernel.mjs').Kernel} options.kernel
 * @param {string} options.rootTree folder with the root file system's contents
 * @param {Uint8Array} options.bootCode of SYSLINUX, for the first sector
 * @param {string} options.folder where the pieces are made
 * @returns {DiskPiece[]}
 */
export function makePartitions({ tools, kernel, rootTree, bootCode, folder }) {
  const mbr = join(folder, 'mbr');
  const sectors = { boot: BOOT_BYTES / SECTOR_BYTES, root: ROOT_BYTES / SECTOR_BYTES };
  const partitions = [
    { type: TYPE_FAT16_LBA, firstSector: BOOT_OFFSET_BYTES / SECTOR_BYTES, sectors: sectors.boot, boots: true },
    { type: TYPE_LINUX, firstSector: ROOT_OFFSET_BYTES / SECTOR_BYTES, sectors: sectors.root },
  ];
  writeFileSync(mbr, masterBootRecord({ bootCode, diskId: DISK_ID, partitions }));
  return [
    { offsetBytes: 0, path: mbr },
    { offsetBytes: BOOT_OFFSET_BYTES, path: makeBootFileSystem(tools, kernel, folder) },
    { offsetBytes: ROOT_OFFSET_BYTES, path: makeRootFileSystem(tools, rootTree, folder) },
  ];
}

/**
 * @param {import('./private-tools.mjs').PrivateTools} tools
 * @param {import('./packaged-kernel.mjs').Kernel} kernel
 * @param {string} folder
 */
function makeBootFileSystem(tools, kernel, folder) {
  const image = emptyFile(join(folder, 'boot.fat'), BOOT_BYTES);
  // The geometry is the one BIOSes assume for a disk of this size; -H is where the partition begins.
  const geometry = ['-h', '16', '-s', '63', '-H', String(BOOT_OFFSET_BYTES / SECTOR_BYTES)];
  tools.run('mformat', ['-i', image, '-T', String(BOOT_BYTES / SECTOR_BYTES), ...geometry, '-N', '71636f77', '::']);
  const configuration = [
    'DEFAULT linux',
    'PROMPT 0',
    'LABEL linux',
    ' KERNEL /vmlinuz',
    ...(kernel.initialRamFileSystem ? [' INITRD /initrd.gz'] : []),
    ` APPEND ${COMMAND_LINE} ${kernel.commandLine}`.trimEnd(),
  ];
  copyIn('syslinux.cfg', `${configuration.join('\n')}\n`);
  copyIn('vmlinuz', kernel.image);
  if (kernel.initialRamFileSystem) copyIn('initrd.gz', kernel.initialRamFileSystem);
  tools.run('syslinux', ['--install', image]);
  return image;

  /** @param {string} name @param {string | Uint8Array} contents */
  function copyIn(name, contents) {
    const path = join(folder, name);
    writeFileSync(path, contents);
    tools.run('mcopy', ['-i', image, path, `::${name}`]);
  }
}

/**
 * @param {import('./private-tools.mjs').PrivateTools} tools
 * @param {string} rootTree
 * @param {string} folder
 */
function makeRootFileSystem(tools, rootTree, folder) {
  const image = emptyFile(join(folder, 'root.ext4'), ROOT_BYTES);
  // No checksums (slow in an emulator), no 64-bit block numbers; everything is initialized now, not by the guest.
  const features =
    'has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize';
  const extended = 'root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0';
  tools.run('mke2fs', [
    ...['-q', '-F', '-t', 'ext4', '-b', '4096', '-I', '256', '-N', String(ROOT_INODES), '-m', '0'],
    ...['-O', `none,${features}`, '-E', extended, '-L', 'root', '-U', ROOT_UUID, '-d', rootTree, image],
  ]);
  giveToRoot(tools, image, rootTree);
  return image;
}

/**
 * The files in the image have the owner they have here; in the guest they belong to root.
 * @param {import('./private-tools.mjs').PrivateTools} tools
 * @param {string} image
 * @param {string} rootTree
 */
function giveToRoot(tools, image, rootTree) {
  const paths = readdirSync(rootTree, { recursive: true, encoding: 'utf8' });
  const commands = paths.flatMap((path) => ['uid', 'gid'].map((field) => `set_inode_field "/${path}" ${field} 0\n`));
  const script = `${image}.commands`;
  writeFileSync(script, commands.join(''));
  tools.run('debugfs', ['-w', '-f', script, image]);
  rmSync(script);
}

/** @param {string} path @param {number} sizeBytes */
function emptyFile(path, sizeBytes) {
  writeFileSync(path, '');
  truncateSync(path, sizeBytes);
  return path;
}

/** The boot code of the downloaded SYSLINUX. @param {string} packageFolder of syslinux-common */
export function syslinuxBootCode(packageFolder) {
  return readFileSync(join(packageFolder, 'usr/lib/syslinux/mbr/mbr.bin'));
}
