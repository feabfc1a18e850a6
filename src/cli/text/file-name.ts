/**
 * File names as QEMU takes them: a path, `protocol:...`, or `json:{...}`; and what a name inside an image means.
 */
import { CliError } from './messages.js';

/** A colon before the first slash. */
export function hasProtocol(name: string): boolean {
  return /^[^:/]*:/.test(name);
}

export function isAbsolute(name: string): boolean {
  return name.startsWith('/');
}

/** `name` as seen from the file `base`: in the same folder, unless it is absolute. */
export function combinePath(base: string, name: string): string {
  if (isAbsolute(name)) return name;
  const protocolEnd = hasProtocol(base) ? base.indexOf(':') + 1 : 0;
  return base.slice(0, Math.max(protocolEnd, base.lastIndexOf('/') + 1)) + name;
}

/** The backing file `backing` of the image called `image`. Null for an empty name. Throws where it can't be told. */
export function fullBackingName(image: string, backing: string): string | null {
  if (backing === '') return null;
  if (hasProtocol(backing) || isAbsolute(backing)) return backing;
  if (image === '' || image.startsWith('json:')) {
    throw new CliError(`Cannot use relative backing file names for '${image}'`);
  }
  return combinePath(image, backing);
}

/** `file:name` without its protocol. What is left then may look like another protocol, which a `./` before it prevents. */
export function withoutPrefix(name: string, prefix: string): string {
  if (!name.startsWith(prefix)) return name;
  const rest = name.slice(prefix.length);
  return hasProtocol(rest) ? `./${rest}` : rest;
}
