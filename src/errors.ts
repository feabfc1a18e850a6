/**
 * The one error class of the project, and the closed list of its codes.
 *
 * A message names the field, its value and the limit. Errors are for the world's mistakes (a bad image, a full disk, a
 * second tab); our own mistakes are assertions (`util/assert.ts`).
 */

export const ERROR_CODES = [
  /** The bytes are no qcow2 image: the magic is missing. */
  'NOT_QCOW2',
  /** The image breaks the format: a field, offset, count or length is out of its range. */
  'BAD_IMAGE',
  /** The image uses a version, feature bit, encryption or compression that this build does not handle. */
  'UNSUPPORTED',
  /** The image is marked corrupt, or was found corrupt while in use; it may only be read. */
  'CORRUPT',
  /** A caller's argument is out of range. */
  'BAD_ARGUMENT',
  /** A write, discard or resize of something opened read-only. */
  'READ_ONLY',
  /** A request reaches past the end of the disk. */
  'OUT_OF_RANGE',
  /** A limit of the format would be passed: refcount table, L1 table, host offset. */
  'LIMIT',
  /** The image names a backing file and the opener did not allow it, did not find it, or the chain is no chain. */
  'BACKING',
  /** The image is encrypted, and no key was given. */
  'KEY_NEEDED',
  /** The passphrase opens none of the image's key slots: another one may be asked for. */
  'WRONG_PASSPHRASE',
  /** The storage failed: the cause is kept in `cause`. */
  'IO',
  /** The storage has no room left. */
  'NO_SPACE',
  /** An earlier write or flush failed. Close the image and open it again. */
  'POISONED',
  /** Used after `close()`. */
  'CLOSED',
  /** Used after `inactivate()`: the file is somebody else's until `invalidate()`. */
  'INACTIVE',
  /** Another tab, worker or handle is the writer of this disk. */
  'IN_USE',
  /** The worker that holds the disk ended; requests that were under way have failed. */
  'WORKER_DIED',
  /** The file does not exist, here or on its server. */
  'NOT_FOUND',
  /** A base image could not be fetched: no network, a server that refuses or does not keep to HTTP, an answer that is cut short. */
  'NETWORK',
  /** A base image on its server is another one by now than the one that the disk stands on. */
  'BASE_CHANGED',
  /** A long job was ended by its `AbortSignal`. */
  'ABORTED',
  /** v86 does not have the seam this package was written against. */
  'V86_SEAM',
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** What went wrong, as a code to switch on and a message to show. */
export class Qcow2Error extends Error {
  override readonly name = 'Qcow2Error';

  constructor(
    readonly code: ErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

export function isQcow2Error(error: unknown, code?: ErrorCode): error is Qcow2Error {
  return error instanceof Qcow2Error && (code === undefined || error.code === code);
}
