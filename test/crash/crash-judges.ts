/** What is said of the files that a crash left: by our own check, and by qemu-img. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { MemoryStorage } from '../../src/index.js';
import { checkImage, type CheckResult, type Repair } from '../../src/operations/check/check-image.js';
import type { Storage } from '../../src/storage/storage.js';
import { qemuCheck, type CheckReport } from '../interop/qemu.js';
import { qemuCheckWith } from '../interop/qemu-secrets.js';
import { expectSameBytes } from '../support/model-disk.js';

/** One state in so many is also given to qemu-img. */
export const JUDGED_BY_QEMU = 15;

/** Where the files are put for qemu-img, which looks for a data file from the folder that it was started in. There while a test has any. */
const FOLDER = join(tmpdir(), `qcow2-wasm-crash-${process.pid}`);

/** The names that images of these tests record. */
export const BACKING_NAME = 'base';
export const DATA_NAME = join(FOLDER, 'data');
/** The same file by another name. */
export const OTHER_DATA_NAME = `${FOLDER}/./data`;

/** The passphrase of all encrypted images of these tests. */
export const ENCRYPTED_WITH = 'a passphrase';

const VERSION_AT = 7;
const CRYPT_METHOD_AT = 35;
const INCOMPATIBLE_AT = 79;
const DIRTY = 1;

/** Whether the image says that its refcounts may be behind. */
export function isDirty(file: Uint8Array): boolean {
  return file[VERSION_AT] === 3 && ((file[INCOMPATIBLE_AT] ?? 0) & DIRTY) !== 0;
}

export function runCheck(storage: Storage, repair: Repair = 'none'): CheckResult {
  const job = checkImage(storage, { repair });
  for (;;) {
    const { done, value } = job.next();
    if (done) return value;
  }
}

/** Throws when our check finds more than leaks in `file`, which stays as it is. */
export function expectLeaksOnly(file: Uint8Array, when: string): void {
  const { corruptions, checkErrors, remaining } = runCheck(new MemoryStorage(file.slice()));
  if (corruptions + checkErrors === 0) return;
  const first = remaining.find(({ kind }) => kind !== 'leak');
  throw new Error(`our check ${when}: ${corruptions} corruptions, ${checkErrors} errors, such as: ${first?.message}`);
}

/** The same by qemu-img. An image that may be dirty is repaired first. */
export function expectLeaksOnlyByQemu(files: readonly Uint8Array[], when: string): void {
  const image = putForQemu(files);
  if (isDirty(files[0]!)) qemuCheckOf(image, 'all');
  const { corruptions, checkErrors, output } = qemuCheckOf(image);
  expect({ corruptions, checkErrors }, `qemu-img check ${when}: ${output}`).toEqual({ corruptions: 0, checkErrors: 0 });
}

/** What QEMU says of an image, encrypted or not. */
export function qemuCheckOf(path: string, repair?: 'all'): CheckReport & { readonly output: string } {
  const isEncrypted = readFileSync(path)[CRYPT_METHOD_AT] !== 0;
  return isEncrypted ? qemuCheckWith(ENCRYPTED_WITH, path, repair) : qemuCheck(path, repair);
}

/** Writes the files of an image to where qemu-img finds them. Returns the path of the image file. */
export function putForQemu([image, data]: readonly Uint8Array[]): string {
  const path = join(FOLDER, 'state.qcow2');
  if (mkdirSync(FOLDER, { recursive: true })) onTestFinished(() => rmSync(FOLDER, { recursive: true }));
  writeFileSync(path, image!);
  // qemu-img wants the files that are named to be there.
  writeFileSync(join(FOLDER, BACKING_NAME), '');
  writeFileSync(DATA_NAME, data ?? '');
  return path;
}

/** Each byte as before or as after. With `mixed` unset, all of one or all of the other. */
export function expectEither(
  disk: Uint8Array,
  either: { readonly before: Uint8Array; readonly after: Uint8Array },
  mixed: boolean,
): void {
  const { before, after } = either;
  if (mixed) {
    const allowed = before.map((byte, index) => (disk[index] === after[index] ? after[index]! : byte));
    expectSameBytes(disk, allowed, 'the disk against what it was and what it was to be');
    return;
  }
  if (disk.length === after.length && Buffer.compare(disk, after) === 0) return;
  expectSameBytes(disk, before, 'the disk, which is not as it was to be, against what it was');
}
