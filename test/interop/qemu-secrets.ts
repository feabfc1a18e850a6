/** qemu-img with passphrases. They are handed over as secret objects, named by the caller. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { checkReportOf, qemuImg } from './qemu.js';

/** Passphrases by the names of their secret objects. */
export type Secrets = Readonly<Record<string, string>>;

function secretObject(id: string, passphrase: string): string {
  return `secret,id=${id},format=base64,data=${Buffer.from(passphrase).toString('base64')}`;
}

/** Runs qemu-img, demands success, returns what it printed. `command` is its first word. */
export function qemuImgWith(secrets: Secrets, command: string, ...args: string[]): string {
  const objects = Object.entries(secrets).flatMap(([id, passphrase]) => ['--object', secretObject(id, passphrase)]);
  return qemuImg(command, ...objects, ...args);
}

/** The complaint of qemu-img, which must refuse. */
export function qemuRefusal(secrets: Secrets, command: string, ...args: string[]): string {
  try {
    qemuImgWith(secrets, command, ...args);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  throw new Error(`qemu-img ${command} ${args.join(' ')} succeeded`);
}

/** `qemu-img check` of an encrypted qcow2 image, which QEMU opens with its passphrase only. */
export function qemuCheckWith(
  passphrase: string,
  path: string,
  repair?: 'leaks' | 'all',
): ReturnType<typeof checkReportOf> {
  const secret = ['--object', secretObject('key', passphrase)];
  return checkReportOf([...secret, ...(repair ? ['-r', repair] : []), ...encryptedImage('qcow2', path, 'key')]);
}

/** An encrypted image as an argument of qemu-img; `secret` names the passphrase. */
export function encryptedImage(driver: 'luks' | 'qcow2', path: string, secret: string): string[] {
  const option = driver === 'luks' ? 'key-secret' : 'encrypt.key-secret';
  return ['--image-opts', `driver=${driver},${option}=${secret},file.filename=${path}`];
}

/** What QEMU reads of an encrypted image with `passphrase`. */
export function decryptedByQemu(driver: 'luks' | 'qcow2', path: string, passphrase: string): Buffer {
  const raw = `${path}.decrypted`;
  qemuImgWith({ key: passphrase }, 'convert', '-O', 'raw', ...encryptedImage(driver, path, 'key'), raw);
  return readFileSync(raw);
}

/**
 * Runs `commands` in one qemu-io on an encrypted qcow2 image, and demands that each of them succeeds.
 * @param image its path, or the arguments that name it; the passphrase is the secret object `key` there.
 */
export function qemuIoWith(
  { key }: { readonly key: string },
  image: string | readonly string[],
  commands: readonly string[],
): void {
  const subject = typeof image === 'string' ? encryptedImage('qcow2', image, 'key') : image;
  const all = commands.flatMap((command) => ['-c', command]);
  const args = ['--object', secretObject('key', key), '-d', 'unmap', ...all, ...subject];
  const { status, stdout, stderr } = spawnSync('qemu-io', args, { encoding: 'utf8' });
  const complaint = /^.*(?:failed|error|invalid|not ).*$/im.exec(stdout + stderr);
  if (status !== 0 || complaint) throw new Error(`qemu-io ended with ${status}: ${complaint?.[0] ?? stderr}`);
}
