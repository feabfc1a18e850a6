/**
 * Formats by name: what this program reads and writes, and what it knows by name only, so that it can say so.
 */
import { hasProtocol } from '../text/file-name.js';
import { CliError } from '../text/messages.js';
import { optionHelp } from '../text/option-list.js';
import {
  FILE_CREATE,
  joinTables,
  LUKS_CREATE,
  QCOW2_CREATE,
  RAW_CREATE,
  type OptionTable,
} from './creation-options.js';

/** What a backing file may be. */
export const FORMATS = ['qcow2', 'raw'] as const;

/** What images can be created in. */
export type Format = (typeof FORMATS)[number] | 'luks';

const CREATION: Readonly<Record<Format, OptionTable>> = { qcow2: QCOW2_CREATE, raw: RAW_CREATE, luks: LUKS_CREATE };

/** QEMU's other formats and protocols. */
const OTHERS = [
  ...['blkdebug', 'blkverify', 'bochs', 'cloop', 'copy-on-read', 'dmg', 'file', 'host_device', 'nbd'],
  ...['null-aio', 'null-co', 'parallels', 'preallocate', 'qcow', 'qed', 'quorum', 'throttle', 'vdi', 'vhdx'],
  ...['vmdk', 'vpc', 'vvfat', 'http', 'https', 'ftp', 'ftps', 'ssh', 'rbd', 'iscsi', 'nvme', 'replication'],
];

/** Whether QEMU knows a format of this name, whether we do or not. */
export function isFormatName(name: string): boolean {
  return Object.hasOwn(CREATION, name) || OTHERS.includes(name);
}

/** A format that images can be created in. Throws for another. */
export function creatableFormat(name: string): Format {
  if (name === 'luks' || name === 'qcow2' || name === 'raw') return name;
  if (isFormatName(name)) throw new CliError(`Format driver '${name}' does not support image creation`);
  throw new CliError(`Unknown file format '${name}'`);
}

/** The path of a new file. Throws for a protocol that no file can be created with. */
export function newFilePath(fileName: string): string {
  if (!hasProtocol(fileName)) return fileName;
  const protocol = fileName.slice(0, fileName.indexOf(':'));
  if (protocol === 'file') return fileName.slice('file:'.length);
  if (isFormatName(protocol)) throw new CliError(`Protocol driver '${protocol}' does not support image creation`);
  throw new CliError(`Unknown protocol '${protocol}'`);
}

/** The options for an image of this format in a file; `FILE_CREATE` are those of the file. */
export function creationTable(format: Format): OptionTable {
  return joinTables(CREATION[format], FILE_CREATE);
}

/** `-o help`: with a file name the options of its file are listed, too. */
export function creationHelp(format: Format, fileName: string | undefined): string {
  if (fileName !== undefined) {
    newFilePath(fileName);
    return `Supported options:\n${optionHelp(creationTable(format))}`;
  }
  const more =
    '\nThe protocol level may support further options.\nSpecify the target filename to include those options.\n';
  return `Supported ${format} options:\n${optionHelp(CREATION[format])}${more}`;
}
