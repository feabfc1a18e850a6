/**
 * The drivers there are, by name.
 */
import { CliError } from '../text/messages.js';
import { hasProtocol } from '../text/file-name.js';
import { blkdebugDriver } from './blkdebug-driver.js';
import { bochsDriver } from './bochs-driver.js';
import { compressDriver } from './compress-driver.js';
import { fileDriver } from './file-driver.js';
import { hostDeviceDrivers } from './host-device-driver.js';
import { luksDriver } from './luks-driver.js';
import { nullDrivers } from './null-driver.js';
import { qcow2Driver } from './qcow2-driver.js';
import { rawDriver } from './raw-driver.js';
import type { Driver } from './driver.js';
import type { OptionBag } from './option-bag.js';

export type { Driver } from './driver.js';

export const DRIVERS: ReadonlyMap<string, Driver> = new Map(
  [
    blkdebugDriver,
    compressDriver,
    fileDriver,
    ...hostDeviceDrivers,
    ...nullDrivers,
    qcow2Driver,
    rawDriver,
    luksDriver,
    bochsDriver,
  ].map((driver) => [driver.name, driver]),
);

/** The driver of a file that none is named for: by the prefix of its name, if that counts. Throws `CliError` for none. */
export function protocolOf(options: OptionBag, prefixCounts: boolean): Driver {
  const fileName = options.peekText('filename');
  if (fileName === undefined) throw new CliError('Must specify either driver or file');
  if (!prefixCounts || !hasProtocol(fileName)) return fileDriver;
  const prefix = fileName.slice(0, fileName.indexOf(':'));
  const driver = [...DRIVERS.values()].find((candidate) => candidate.prefix === prefix);
  if (driver === undefined) throw new CliError(`Unknown protocol '${prefix}'`);
  return driver;
}
