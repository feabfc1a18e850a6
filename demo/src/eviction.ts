/** The start of a visit: what the browser has cleared since the last one is told, instead of a fresh disk in its place alone. */
import { listFiles } from 'qcow2-wasm/opfs';
import { forgetDisk, missingDisks, type Ledger, type SeenDisk } from './disk-ledger.js';
import { diskNameOf } from './disk-names.js';
import { hideNotice, showNoticeInTurn } from './notice.js';
import { currentState, formatBytes } from './page.js';
import { goToStorage } from './storage-panel.js';
import { directory } from './stored-disk.js';
import { age } from './time-words.js';

/**
 * Starts the visit, and then says what is missed.
 * @param before the ledger as it was before anything of this visit looked. @param start boots the guest.
 */
export async function startWatchfully(before: Ledger, start: () => Promise<void>): Promise<void> {
  const missed = await findMissing(before);
  await start();
  if (missed.length === 0 || currentState() === 'error') return;
  showCleared(missed);
  // It is said once, also where the page is left before it has looked again.
  for (const { name } of missed) forgetDisk(name);
}

async function findMissing(before: Ledger): Promise<SeenDisk[]> {
  if (before.disks.length === 0) return [];
  try {
    const files = await listFiles({ directory });
    return missingDisks(
      before,
      files.map(({ name }) => name),
    );
  } catch {
    // What keeps the folder from being read is told when the disk is opened.
    return [];
  }
}

function showCleared(missed: readonly SeenDisk[]): void {
  const [first] = missed;
  const isOne = missed.length === 1 && first !== undefined;
  const what = missed.map(
    ({ name, bytes, lastSeen }) => `${diskNameOf(name) ?? name}, ${formatBytes(bytes)}, last here ${when(lastSeen)}`,
  );
  showNoticeInTurn({
    title: isOne ? 'The browser has cleared your disk' : `The browser has cleared ${missed.length} of your disks`,
    what: what.join('; '),
    advice:
      'This page did not delete it: browsers clear what a site has stored when room is short, or when they are told to. What boots here is a fresh disk. A download is a copy that no browser clears.',
    actions: [
      { label: 'See what is stored', run: goToStorage },
      { label: 'Dismiss', run: hideNotice },
    ],
  });
}

function when(time: number): string {
  const date = new Date(time);
  return `${age(date)} (${date.toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' })})`;
}
