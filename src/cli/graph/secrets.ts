/**
 * Secrets: what `--object secret,id=...` defines, by id. A passphrase is given as text or in a file, plain or in base64, and
 * may be encrypted with AES-256-CBC under another secret (`keyid`, `iv`), as QEMU has it.
 */
import { createDecipheriv } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { errorWords } from '../text/errno.js';
import { CliError } from '../text/messages.js';

/** Of the master key that a secret is encrypted under. */
const KEY_BYTES = 32;
const IV_BYTES = 16;

const PROPERTIES = ['qom-type', 'id', 'data', 'file', 'format', 'keyid', 'iv'];

export class Secrets {
  readonly #bytes = new Map<string, Uint8Array>();

  /** Defines a secret from the options of `--object`. Throws `CliError` in QEMU's words. */
  define(options: ReadonlyMap<string, string>): void {
    const type = options.get('qom-type');
    if (type === undefined) throw new CliError("Parameter 'qom-type' is missing");
    if (type !== 'secret') throw new CliError(`Parameter 'qom-type' does not accept value '${type}'`);
    const id = options.get('id');
    if (id === undefined) throw new CliError("Parameter 'id' is missing");
    const unknown = [...options.keys()].find((key) => !PROPERTIES.includes(key));
    if (unknown !== undefined) throw new CliError(`Parameter '${unknown}' is unexpected`);
    if (!/^[A-Za-z][A-Za-z0-9._-]*$/.test(id)) {
      const hint = "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.\n";
      throw new CliError("Parameter 'id' expects an identifier", { hint });
    }
    const bytes = this.#read(options);
    if (this.#bytes.has(id)) {
      throw new CliError(`attempt to add duplicate property '${id}' to object (type 'container')`);
    }
    this.#bytes.set(id, bytes);
  }

  /** The bytes of a secret. Throws `CliError`. */
  lookup(id: string): Uint8Array {
    const bytes = this.#bytes.get(id);
    if (bytes === undefined) throw new CliError(`No secret with id '${id}'`);
    return bytes;
  }

  #read(options: ReadonlyMap<string, string>): Uint8Array {
    const format = options.get('format') ?? 'raw';
    if (format !== 'raw' && format !== 'base64') {
      throw new CliError(`Parameter 'format' does not accept value '${format}'`);
    }
    const given = givenBytes(options);
    const keyId = options.get('keyid');
    if (keyId !== undefined) return this.#decrypt(given, keyId, options.get('iv'));
    if (options.has('iv')) throw new CliError("'iv' is only valid with 'keyid'");
    return format === 'base64' ? fromBase64(given) : given;
  }

  /** What is encrypted is in base64, whatever format it has inside. */
  #decrypt(given: Uint8Array, keyId: string, iv: string | undefined): Uint8Array {
    const key = this.lookup(keyId);
    if (key.length !== KEY_BYTES) throw new CliError(`Key should be ${KEY_BYTES} bytes in length`);
    if (iv === undefined) throw new CliError('IV is required to decrypt secret');
    const vector = fromBase64(Buffer.from(iv));
    if (vector.length !== IV_BYTES) {
      throw new CliError(`IV should be ${IV_BYTES} bytes in length not ${vector.length}`);
    }
    try {
      const cipher = createDecipheriv('aes-256-cbc', key, vector);
      return Buffer.concat([cipher.update(fromBase64(given)), cipher.final()]);
    } catch (cause) {
      throw new CliError('Incorrect number of padding bytes found on decrypted data', { cause });
    }
  }
}

function givenBytes(options: ReadonlyMap<string, string>): Uint8Array {
  const data = options.get('data');
  const file = options.get('file');
  if (data !== undefined && file !== undefined) throw new CliError("'file' and 'data' are mutually exclusive");
  if (data !== undefined) return Buffer.from(data);
  if (file === undefined) throw new CliError("Either 'file' or 'data' must be provided");
  try {
    return readFileSync(file);
  } catch (cause) {
    const { words } = errorWords(cause);
    throw new CliError(`Unable to read ${file}: Failed to open file “${file}”: ${words}`, { cause });
  }
}

function fromBase64(text: Uint8Array): Uint8Array {
  const characters = Buffer.from(text).toString('latin1').replaceAll(/\s/g, '');
  if (characters.length === 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(characters) || characters.length % 4 !== 0) {
    throw new CliError(`Base64 data '${characters}' is not valid`);
  }
  return Buffer.from(characters, 'base64');
}
