/**
 * Error numbers: the host's errors and the engine's, as the words that QEMU's tools print (`strerror` of Linux; Node has others).
 * What an engine error is to a guest is QEMU's choice for the same failure.
 */
import { constants } from 'node:os';
import { isQcow2Error, type ErrorCode } from '../../errors.js';

/** The names that are told apart here, with Linux's words for them. */
const WORDS = {
  EPERM: 'Operation not permitted',
  ENOENT: 'No such file or directory',
  EINTR: 'Interrupted system call',
  EIO: 'Input/output error',
  ENXIO: 'No such device or address',
  E2BIG: 'Argument list too long',
  EBADF: 'Bad file descriptor',
  EAGAIN: 'Resource temporarily unavailable',
  ENOMEM: 'Cannot allocate memory',
  EACCES: 'Permission denied',
  EBUSY: 'Device or resource busy',
  EEXIST: 'File exists',
  EXDEV: 'Invalid cross-device link',
  ENODEV: 'No such device',
  ENOTDIR: 'Not a directory',
  EISDIR: 'Is a directory',
  EINVAL: 'Invalid argument',
  ENFILE: 'Too many open files in system',
  EMFILE: 'Too many open files',
  ENOTTY: 'Inappropriate ioctl for device',
  ETXTBSY: 'Text file busy',
  EFBIG: 'File too large',
  ENOSPC: 'No space left on device',
  ESPIPE: 'Illegal seek',
  EROFS: 'Read-only file system',
  EPIPE: 'Broken pipe',
  ERANGE: 'Numerical result out of range',
  ENAMETOOLONG: 'File name too long',
  ELOOP: 'Too many levels of symbolic links',
  EOVERFLOW: 'Value too large for defined data type',
  ENOTSUP: 'Operation not supported',
  EDQUOT: 'Disk quota exceeded',
  ENOMEDIUM: 'No medium found',
  ECANCELED: 'Operation canceled',
} as const;

export type Errno = keyof typeof WORDS;

/** Node does not know `ENOMEDIUM`. */
const NUMBERS: Readonly<Record<string, number>> = { ENOMEDIUM: 123, ...constants.errno };

/** Linux's words for an error. */
export function strerror(errno: Errno): string {
  return WORDS[errno];
}

/** The error with this number; null for one that has no name here. */
export function errnoOfNumber(value: number): Errno | null {
  const found = Object.keys(WORDS).find((name) => NUMBERS[name] === value);
  return (found as Errno | undefined) ?? null;
}

/** An error of a request that has a number. */
export class ErrnoError extends Error {
  override readonly name = 'ErrnoError';

  constructor(
    readonly errno: Errno,
    message: string = strerror(errno),
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

const OF_ENGINE: Readonly<Record<ErrorCode, Errno>> = {
  NOT_QCOW2: 'EINVAL',
  BAD_IMAGE: 'EINVAL',
  UNSUPPORTED: 'ENOTSUP',
  CORRUPT: 'EIO',
  BAD_ARGUMENT: 'EINVAL',
  READ_ONLY: 'EPERM',
  OUT_OF_RANGE: 'EIO',
  LIMIT: 'EFBIG',
  BACKING: 'EINVAL',
  KEY_NEEDED: 'EINVAL',
  WRONG_PASSPHRASE: 'EINVAL',
  IO: 'EIO',
  NO_SPACE: 'ENOSPC',
  POISONED: 'EIO',
  CLOSED: 'ENOMEDIUM',
  INACTIVE: 'EIO',
  IN_USE: 'EAGAIN',
  WORKER_DIED: 'EIO',
  NOT_FOUND: 'ENOENT',
  NETWORK: 'EIO',
  BASE_CHANGED: 'EIO',
  ABORTED: 'ECANCELED',
  V86_SEAM: 'EINVAL',
};

/** The name behind whatever was thrown: that of the first cause which has one, or what the engine's code stands for. */
export function errnoOf(error: unknown): Errno {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    const own: unknown = 'errno' in at && typeof at.errno === 'string' ? at.errno : (at as NodeJS.ErrnoException).code;
    if (typeof own === 'string' && Object.hasOwn(WORDS, own)) return own as Errno;
  }
  return isQcow2Error(error) ? OF_ENGINE[error.code] : 'EIO';
}

/** The name, Linux's number and the words of whatever was thrown. */
export function errorWords(error: unknown): { readonly errno: Errno; readonly number: number; readonly words: string } {
  const errno = errnoOf(error);
  return { errno, number: NUMBERS[errno] ?? constants.errno.EIO, words: strerror(errno) };
}
