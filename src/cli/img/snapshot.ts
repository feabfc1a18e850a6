/** `snapshot`: lists, makes, goes to and deletes internal snapshots. */
import { ErrnoError, errorWords, strerror } from '../text/errno.js';
import { isQcow2Error } from '../../errors.js';
import { BadSnapshotL1 } from '../../format/snapshot-table.js';
import type { Qcow2Image } from '../../image/qcow2-image.js';
import { RefcountTooHigh } from '../../metadata/next-counts.js';
import { listBitmaps } from '../../operations/bitmaps/bitmaps.js';
import { createSnapshot } from '../../operations/snapshots/create-snapshot.js';
import { deleteSnapshot } from '../../operations/snapshots/delete-snapshot.js';
import { gotoSnapshot } from '../../operations/snapshots/goto-snapshot.js';
import { findSnapshot, listSnapshots } from '../../operations/snapshots/list-snapshots.js';
import { snapshotL1Refusal } from '../graph/qcow2-refusal.js';
import { CliError, UsageError, withPrefix } from '../text/messages.js';
import {
  FORCE_SHARE,
  IMAGE_OPTS,
  letter,
  MessageLines,
  OBJECT,
  oneFileName,
  readCommandLine,
  type Command,
  type CommandContext,
} from './command.js';
import { openImageArgument } from './open-image.js';
import { snapshotTable } from './snapshot-table.js';

interface Action {
  /** The letter of the option. */
  readonly letter: string;
  /** Of the snapshot; empty for the list. */
  readonly name: string;
}

export const run: Command = async (args, context) => {
  let action: Action | null = null;
  const letters = [letter('l'), letter('a', true), letter('c', true), letter('d', true), letter('q')];
  const line = readCommandLine(args, [...letters, OBJECT, IMAGE_OPTS, FORCE_SHARE], context, ({ name, value }) => {
    if (!['l', 'a', 'c', 'd'].includes(name)) return;
    if (action !== null) throw new UsageError("Cannot mix '-l', '-a', '-c', '-d'");
    action = { letter: name, name: value };
  });
  const image = { name: oneFileName(line), format: undefined, imageOpts: line.has('image-opts') };
  const wanted = action as Action | null;
  const flags = { readOnly: wanted?.letter === 'l', secrets: line.secrets, forceShare: line.has('force-share') };
  const node = await openImageArgument(context, image, flags);
  try {
    if (wanted !== null) await carryOut(context, node.image, wanted);
  } finally {
    node.close();
  }
  return 0;
};

async function carryOut(context: CommandContext, image: Qcow2Image | null, action: Action): Promise<void> {
  const { name } = action;
  switch (action.letter) {
    case 'l': {
      const snapshots = image === null ? [] : listSnapshots(image);
      if (snapshots.length > 0) context.console.out(snapshotTable(snapshots));
      return;
    }
    case 'c':
      return create(image, name);
    case 'a':
      return goTo(image, name);
    default:
      return remove(context, image, name);
  }
}

function create(image: Qcow2Image | null, name: string): void {
  try {
    if (image === null) throw new CliError('', { errno: 'ENOTSUP' });
    // Like QEMU's, which counts no instructions here, and records that it counted none.
    createSnapshot(image, { name, furtherVmState: 'keep', instructionCount: 0n });
  } catch (error) {
    // A refcount that is as high as it can be is an invalid argument to QEMU.
    const { number, words } = errorWords(error instanceof RefcountTooHigh ? new ErrnoError('EINVAL') : error);
    throw new CliError(`Could not create snapshot '${name}': ${-number} (${words})`, { cause: error });
  }
}

function goTo(image: Qcow2Image | null, name: string): void {
  const prefix = `Could not apply snapshot '${name}': `;
  if (image === null) throw new CliError(`${prefix}Block driver does not support snapshots`);
  if (findSnapshot(image, name) === null) throw new CliError(`${prefix}Failed to load snapshot: ${strerror('ENOENT')}`);
  if (listBitmaps(image).length > 0) throw new CliError(`${prefix}Device has active dirty bitmaps`, { errno: 'EBUSY' });
  try {
    gotoSnapshot(image, name);
  } catch (error) {
    if (!(error instanceof BadSnapshotL1)) throw withPrefix(prefix, error);
    const { message, errno } = snapshotL1Refusal(error);
    throw new MessageLines([message, `${prefix}Failed to load snapshot: ${strerror(errno)}`]);
  }
}

async function remove({ interrupts }: CommandContext, image: Qcow2Image | null, name: string): Promise<void> {
  if (image === null || findSnapshot(image, name) === null) {
    throw new CliError(`Could not delete snapshot '${name}': snapshot not found`);
  }
  try {
    await interrupts.run(deleteSnapshot(image, name));
  } catch (error) {
    const known = error instanceof BadSnapshotL1 ? snapshotL1Refusal(error) : error;
    const isRefusal = known instanceof CliError || isQcow2Error(known);
    throw isRefusal ? withPrefix(`Could not delete snapshot '${name}': `, known) : known;
  }
}
