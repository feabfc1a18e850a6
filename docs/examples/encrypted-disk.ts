/** A disk that is worth nothing without its passphrase: LUKS, as QEMU makes it. */
import { isQcow2Error, openDisk, type OpfsDisk } from 'qcow2-wasm/opfs';

/** Makes the disk at the first visit. Null for a wrong passphrase. */
export async function openPrivateDisk(passphrase: string): Promise<OpfsDisk | null> {
  try {
    return await openDisk({
      name: 'private.qcow2',
      create: { size: 2 ** 30, encryption: { format: 'luks' } },
      passphrase,
      requireEncryption: 'luks',
    });
  } catch (error) {
    if (isQcow2Error(error, 'WRONG_PASSPHRASE')) return null;
    throw error;
  }
}
