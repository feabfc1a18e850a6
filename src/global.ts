/**
 * For pages without a bundler: `dist/qcow2-wasm.global.js`, a classic script that puts what `qcow2-wasm/opfs` and `qcow2-wasm/v86`
 * export on one object, `Qcow2Wasm`. The disks are in workers, so the engine itself is not in it a second time: what would run it in
 * the page's own thread (`openLocalDisk`, `localDisk`) is for emulators in a worker, which import modules.
 */
export {
  DEFAULT_DIRECTORY,
  deleteFile,
  duplicateFile,
  ERROR_CODES,
  importImage,
  isQcow2Error,
  listFiles,
  openDisk,
  OpfsDisk,
  Qcow2Error,
  renameFile,
  saveBlob,
  storeFile,
} from './opfs.js';
export { attach, MAXIMUM_DISK_BYTES, MAXIMUM_PICTURE_BYTES, remoteDisk, V86Disk } from './v86.js';
