/**
 * `amend -o encrypt.*`: the key slots of a LUKS image. `state=active` adds a passphrase (`new-secret`), `state=inactive` erases the slot
 * `keyslot`, or those that `old-secret` opens. Rules and messages are QEMU's.
 */
import { isQcow2Error } from '../../errors.js';
import { KEY_SLOTS } from '../../format/luks-header.js';
import { encryptionFormat } from '../../image/image-encryption.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { readVolume } from '../../image/unlock-image.js';
import { addPassphrase, erasePassphrase } from '../../operations/key-slots.js';
import type { Secrets } from '../graph/secrets.js';
import { CliError } from '../text/messages.js';
import { oneOfWords, type OptionValues } from './creation-options.js';

export interface KeyContext {
  readonly secrets: Secrets;
  /** The secret that the image was opened with. */
  readonly openedWith: string | undefined;
  readonly force: boolean;
}

export async function amendKeySlots(image: Qcow2Image, values: OptionValues, context: KeyContext): Promise<void> {
  const format = encryptionFormat(image.header);
  if (format === null) throw new CliError("Can't amend encryption options - encryption not present");
  if (format !== 'luks') throw new CliError('Only LUKS encryption options can be amended', { errno: 'ENOTSUP' });
  const word = values.get('encrypt.state');
  if (word === undefined) throw new CliError("Parameter 'state' is missing");
  const state = oneOfWords('state', word, ['active', 'inactive'] as const);
  const given = values.number('encrypt.keyslot');
  const slot = given === undefined ? undefined : Number(given);
  const active = readVolume(image.storage, image.header).header.slots.map((each) => each.active);
  const request = { image, values, context, slot, active };
  await (state === 'active' ? add(request) : erase(request));
}

interface Request {
  readonly image: Qcow2Image;
  readonly values: OptionValues;
  readonly context: KeyContext;
  readonly slot: number | undefined;
  /** Of each slot. */
  readonly active: readonly boolean[];
}

async function add({ image, values, context, slot, active }: Request): Promise<void> {
  const newSecret = values.get('encrypt.new-secret');
  if (newSecret === undefined) throw new CliError("'new-secret' is required to activate a keyslot");
  if (values.get('encrypt.old-secret') !== undefined) {
    throw new CliError("'old-secret' must not be given when activating keyslots");
  }
  if (slot !== undefined) checkSlot(slot);
  if (slot === undefined && !active.includes(false)) {
    throw new CliError("Can't add a keyslot - all keyslots are in use");
  }
  if (slot !== undefined && active[slot] === true && !context.force) {
    throw new CliError(`Refusing to overwrite active keyslot ${slot} - please erase it first`);
  }
  const iterTime = values.number('encrypt.iter-time');
  const { secrets, openedWith, force } = context;
  await addPassphrase(image, {
    passphrase: secrets.lookup(openedWith ?? ''),
    newPassphrase: secrets.lookup(newSecret),
    force,
    ...(slot === undefined ? {} : { slot }),
    ...(iterTime === undefined ? {} : { iterTime: Number(iterTime) }),
  });
}

async function erase(request: Request): Promise<void> {
  const { image, values, context, slot } = request;
  for (const key of ['new-secret', 'iter-time']) {
    if (values.get(`encrypt.${key}`) === undefined) continue;
    throw new CliError(`'${key}' must not be given when erasing keyslots`);
  }
  const oldSecret = values.get('encrypt.old-secret');
  const passphrase = oldSecret === undefined ? undefined : context.secrets.lookup(oldSecret);
  if (slot === undefined && passphrase === undefined) {
    const what = 'either explicit keyslot index or the password currently contained in them must be given';
    throw new CliError(`To erase keyslot(s), ${what}`);
  }
  if (slot !== undefined) checkErasable(request, slot);
  try {
    await erasePassphrase(image, {
      force: context.force,
      ...(slot === undefined ? {} : { slot }),
      ...(passphrase === undefined ? {} : { passphrase }),
    });
  } catch (error) {
    throw eraseError(error, slot);
  }
}

function checkSlot(slot: number): void {
  if (slot >= 0 && slot < KEY_SLOTS) return;
  throw new CliError(`Invalid keyslot ${slot} specified, must be between 0 and ${KEY_SLOTS - 1}`);
}

function checkErasable({ active, context }: Request, slot: number): void {
  checkSlot(slot);
  if (context.force) return;
  if (active[slot] !== true) throw new CliError(`Given keyslot ${slot} is already erased (inactive) `);
  if (active.filter(Boolean).length > 1) return;
  const loss = 'which will erase all the data in the image irreversibly - refusing operation';
  throw new CliError(`Attempt to erase the only active keyslot ${slot} ${loss}`);
}

/** The engine tells a passphrase that opens nothing from one that opens everything. */
function eraseError(error: unknown, slot: number | undefined): unknown {
  if (isQcow2Error(error, 'WRONG_PASSPHRASE')) {
    if (slot === undefined) return new CliError('No keyslots match given (old) password for erase operation');
    return new CliError(`Given keyslot ${slot} doesn't contain the given old password for erase operation`);
  }
  if (slot === undefined && isQcow2Error(error, 'BAD_ARGUMENT')) {
    const loss = 'erasing them will erase all the data in the image irreversibly - refusing operation';
    return new CliError(`All the active keyslots match the (old) password that was given and ${loss}`);
  }
  return error;
}
