/**
 * Writer of cpio archives in the "new ASCII" format, which Linux unpacks as its initial RAM file system.
 * Kernel documentation: driver-api/early-userspace/buffer-format. Pure: records in, bytes out.
 *
 *   +----------------+----------------------+-----+------------+-----+
 *   | header (110 B) | name, NUL-terminated | pad | contents   | pad |      each pad fills up to a multiple of 4 bytes
 *   +----------------+----------------------+-----+------------+-----+
 *   header: "070701", then 13 numbers of 8 hexadecimal digits:
 *     inode  mode  uid  gid  links  mtime  size  deviceMajor  deviceMinor  nodeMajor  nodeMinor  nameSize  check
 *
 * Everything belongs to root, no time is recorded: the same entries always give the same bytes. A folder must come
 * before what lies in it; the archive ends with an entry named TRAILER!!!.
 */

/**
 * @typedef {{ path: string, mode?: number } & (
 *   | { kind: 'folder' }
 *   | { kind: 'file', contents: Uint8Array | string }
 *   | { kind: 'link', target: string }
 *   | { kind: 'device', major: number, minor: number }
 * )} CpioEntry  `path` without a leading slash; `mode` holds the permission bits only
 */

const HEADER_BYTES = 110;
const TYPE_BITS = { folder: 0o040000, file: 0o100000, link: 0o120000, device: 0o020000 };
const DEFAULT_PERMISSIONS = { folder: 0o755, file: 0o644, link: 0o777, device: 0o600 };

/**
 * @param {readonly CpioEntry[]} entries
 * @returns {Buffer} the whole archive
 * @throws {RangeError} for a path that is absolute, empty, used twice, or not below a folder named before it
 */
export function cpioArchive(entries) {
  checkPaths(entries);
  const parts = entries.flatMap((entry, index) => encodeEntry(entry, index + 1));
  parts.push(...encodeRecord({ name: 'TRAILER!!!', inode: 0, mode: 0, contents: Buffer.alloc(0) }));
  return Buffer.concat(parts);
}

/** @param {readonly CpioEntry[]} entries */
function checkPaths(entries) {
  const folders = new Set(['']);
  const seen = new Set();
  for (const { path, kind } of entries) {
    if (path === '' || path.startsWith('/') || path.endsWith('/'))
      throw new RangeError(`cpio path "${path}" must be relative`);
    if (seen.has(path)) throw new RangeError(`cpio path "${path}" is given twice`);
    const parent = path.slice(0, Math.max(0, path.lastIndexOf('/')));
    if (!folders.has(parent)) throw new RangeError(`cpio path "${path}" comes before its folder "${parent}"`);
    seen.add(path);
    if (kind === 'folder') folders.add(path);
  }
}

/**
 * @param {CpioEntry} entry
 * @param {number} inode
 */
function encodeEntry(entry, inode) {
  const mode = TYPE_BITS[entry.kind] | (entry.mode ?? DEFAULT_PERMISSIONS[entry.kind]);
  const record = { name: entry.path, inode, mode, contents: contentsOf(entry) };
  return entry.kind === 'device'
    ? encodeRecord({ ...record, nodeMajor: entry.major, nodeMinor: entry.minor })
    : encodeRecord(record);
}

/** @param {CpioEntry} entry */
function contentsOf(entry) {
  if (entry.kind === 'file') return Buffer.from(entry.contents);
  if (entry.kind === 'link') return Buffer.from(entry.target);
  return Buffer.alloc(0);
}

/** @param {{ name: string, inode: number, mode: number, contents: Buffer, nodeMajor?: number, nodeMinor?: number }} record */
function encodeRecord({ name, inode, mode, contents, nodeMajor = 0, nodeMinor = 0 }) {
  const nameBytes = Buffer.from(`${name}\0`);
  const numbers = [inode, mode, 0, 0, 1, 0, contents.length, 0, 0, nodeMajor, nodeMinor, nameBytes.length, 0];
  const header = `070701${numbers.map((number) => number.toString(16).toUpperCase().padStart(8, '0')).join('')}`;
  return [
    Buffer.from(header, 'latin1'),
    nameBytes,
    padding(HEADER_BYTES + nameBytes.length),
    contents,
    padding(contents.length),
  ];
}

/** @param {number} length */
function padding(length) {
  return Buffer.alloc(-length & 3);
}
