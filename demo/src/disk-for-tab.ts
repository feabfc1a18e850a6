/**
 * How a tab comes by its disk. The stored one has one writer, so a second tab takes it over, or runs a guest on a disk of its own that is
 * thrown away: a fresh overlay over the base, in memory. The page says of such a guest that nothing of it is kept.
 */
import { openDisk, type OpfsDisk } from 'qcow2-wasm/opfs';
import { baseImage } from './base-image.js';
import { element } from './page.js';

/**
 * - `wait`: the stored disk; rejects with `IN_USE` where another tab has it
 * - `take-over`: the stored disk; the tab that has it is asked to let go of it
 * - `throw-away`: a disk that nobody else has, and nobody keeps
 */
export type Opening = 'wait' | 'take-over' | 'throw-away';

/** A guest under load takes some seconds to stand still, and an export has to end before. */
export const TAKE_OVER = { patience: 20_000 } as const;

/**
 * Opens the disk of this tab. Rejects with a `Qcow2Error`.
 * @param openStored opens the stored disk, taking it over if it is told.
 */
export async function openDiskForTab(
  opening: Opening,
  openStored: (takesOver: boolean) => Promise<OpfsDisk>,
): Promise<OpfsDisk> {
  const isOwn = opening === 'throw-away';
  const disk = isOwn ? await openThrowAwayDisk() : await openStored(opening === 'take-over');
  markThrownAway(isOwn);
  return disk;
}

/**
 * Lets another tab have the disk: ends the machine on it. Rejects where the other one has given up meanwhile; the machine goes on then.
 * @param endMachine stops it and makes stable what it wrote.
 */
export async function letGoOfDisk(givenUp: AbortSignal, endMachine: () => Promise<void>): Promise<void> {
  if (givenUp.aborted) throw new Error('the other tab does not wait for it any more');
  await endMachine();
}

/** Whether what this tab's guest writes is thrown away. */
export function isThrownAway(): boolean {
  return !element('throw-away', HTMLElement).hidden;
}

export function connectThrowAway(): void {
  element('throw-away-end', HTMLButtonElement).addEventListener('click', () => location.reload());
}

function openThrowAwayDisk(): Promise<OpfsDisk> {
  const base = baseImage();
  const create = { backing: { name: base.name, format: 'qcow2' } } as const;
  return openDisk({ name: 'throw-away', throwAway: true, backing: [base], create });
}

function markThrownAway(isSo: boolean): void {
  document.documentElement.classList.toggle('thrown-away', isSo);
  element('throw-away', HTMLElement).hidden = !isSo;
}
