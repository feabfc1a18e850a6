/**
 * The dialog for a download: the whole disk or what has changed, with snapshots or without, compressed or not; or the next of a series of
 * backups. It goes into a file of the visitor's choice where the browser lets pages write one, else it is offered as a download. The guest
 * runs on either way.
 */
import { isQcow2Error, Qcow2Error, saveBlob, type JobOptions } from 'qcow2-wasm/opfs';
import type { BackupSeries } from './backup-series.js';
import { jobOptions } from './disk-copies.js';
import type { DiskExport } from './disk-export.js';
import type { JobStrip } from './job-strip.js';
import { messageOf, showNotice } from './notice.js';
import { element, formatBytes, setText } from './page.js';
import type { Session } from './session.js';

/** Chromium alone has it, and TypeScript's library does not. */
type SaveFilePicker = (options: {
  readonly suggestedName: string;
  readonly types: readonly { readonly description: string; readonly accept: Readonly<Record<string, string[]>> }[];
}) => Promise<PickedFile>;

/** `remove` is not in TypeScript's library either. */
type PickedFile = FileSystemFileHandle & { readonly remove?: () => Promise<void> };

const TYPES = [{ description: 'qcow2 disk image', accept: { 'application/octet-stream': ['.qcow2'] } }];

/** The browser has opened a download by then. */
const DOWNLOAD_MILLISECONDS = 60_000;

export function connectDownload(session: Session, strip: JobStrip): void {
  const dialog = element('download-dialog', HTMLDialogElement);
  const form = dialog.querySelector('form')!;
  element('download', HTMLButtonElement).addEventListener('click', () => void open(session, dialog));
  dialog.querySelector('button.cancel')!.addEventListener('click', () => dialog.close());
  form.addEventListener('change', () => showChoices(session));
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    void download(session, strip, dialog).catch(showFailure);
  });
}

async function open(session: Session, dialog: HTMLDialogElement): Promise<void> {
  try {
    const { name } = session.openDisk();
    const snapshots = await session.listSnapshots();
    setText('download-title', `Download “${name}”`);
    dialog.dataset['disk'] = name;
    element('download-snapshots-row', HTMLElement).hidden = snapshots.length === 0;
    setText(
      'download-snapshots-text',
      snapshots.length === 1 ? 'With its snapshot' : `With its ${snapshots.length} snapshots`,
    );
    element('download-whole', HTMLInputElement).checked = true;
    element('download-series', HTMLInputElement).checked = false;
    showSeries(await session.backupSeries());
    showChoices(session);
    dialog.showModal();
  } catch (error) {
    showFailure(error);
  }
}

function showSeries(series: BackupSeries): void {
  const goesOn = series.state === 'going on';
  element('download-increment-row', HTMLElement).hidden = !goesOn;
  if (goesOn) setText('download-increment-text', `${formatBytes(series.bytes)}; goes over “${series.last}”`);
  const words = {
    none: 'The first of a series: backups after it hold only what is new',
    ended:
      'The first of a new series of backups: the one there was ended when the page did, with the guest still writing',
    'going on': 'The first of a new series of backups, which ends the one there is',
  };
  setText('download-series-text', words[series.state]);
}

/** What can't be had together is not offered. */
function showChoices(session: Session): void {
  const { info } = session.openDisk();
  const overlay = element('download-overlay', HTMLInputElement);
  overlay.disabled = info.backingFile === null;
  const isWhole = element('download-whole', HTMLInputElement).checked;
  element('download-snapshots', HTMLInputElement).disabled = !isWhole;
  element('download-series', HTMLInputElement).disabled = !isWhole || session.isThrownAway;
  const compress = element('download-compress', HTMLInputElement);
  compress.disabled = info.encryption !== null || element('download-increment', HTMLInputElement).checked;
  if (compress.disabled) compress.checked = false;
  setText('download-hint', hint(info.encryption !== null, info.backingFile === null));
}

function hint(isProtected: boolean, isStandalone: boolean): string {
  const parts = ['The guest runs on meanwhile; the copy is of the moment you press Download.'];
  if (isProtected) parts.push('It is protected by the same passphrase, and what is encrypted can’t be compressed.');
  if (isStandalone) parts.push('This disk stands on no base image, so there is only the whole.');
  return parts.join(' ');
}

async function download(session: Session, strip: JobStrip, dialog: HTMLDialogElement): Promise<void> {
  const isOverlay = element('download-overlay', HTMLInputElement).checked;
  const isIncrement = element('download-increment', HTMLInputElement).checked;
  const beginsSeries = !isOverlay && !isIncrement && element('download-series', HTMLInputElement).checked;
  const options: DiskExport = {
    content: isOverlay ? 'overlay' : 'disk',
    snapshots: element('download-snapshots', HTMLInputElement).checked,
    compress: element('download-compress', HTMLInputElement).checked,
  };
  const name = dialog.dataset['disk'] ?? '';
  const wanted = isIncrement
    ? session.nextBackupName()
    : `${name.replace(/[\\/:*?"<>|]/g, '-')}${isOverlay ? ' changes' : ''}.qcow2`;
  const picker = (window as { showSaveFilePicker?: SaveFilePicker }).showSaveFilePicker;
  const target = picker && (await chosenFile(picker.bind(window), wanted));
  if (target === null) return;
  const fileName = target?.name ?? wanted;
  dialog.close();
  await strip.run(`Saving ${fileName}`, async (job) => {
    // The visitor has taken a time to choose, and what waited for its turn did not.
    if (session.openDisk().name !== name) {
      throw new Qcow2Error('IN_USE', `“${name}” is not open here any more: another disk has been started meanwhile`);
    }
    if (isIncrement) {
      const deliver = (blob: Blob): Promise<void> =>
        deliverTo(target, blob, { fileName, ...jobOptions({ signal: job.signal }) });
      return session.downloadIncrement(fileName, { ...job, deliver });
    }
    const save = async (): Promise<void> => {
      if (target) await saveIn(target, () => session.saveDisk(target, { ...options, ...job }));
      else offer(await session.exportDisk({ ...options, ...job }), fileName);
    };
    return beginsSeries ? session.beginBackups(fileName, save) : save();
  });
}

/** Null for who chose none. */
async function chosenFile(picker: SaveFilePicker, suggestedName: string): Promise<PickedFile | null> {
  try {
    return await picker({ suggestedName, types: TYPES });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') return null;
    throw error;
  }
}

/** Resolves when the file has it, or the browser has been offered it. */
async function deliverTo(
  target: PickedFile | undefined,
  blob: Blob,
  { fileName, ...options }: { readonly fileName: string } & JobOptions,
): Promise<void> {
  if (target) await saveIn(target, () => saveBlob(blob, target, options));
  else offer(blob, fileName);
}

/** The picker has made an empty file, if there was none; it goes again if nothing comes of it. */
async function saveIn(target: PickedFile, save: () => Promise<void>): Promise<void> {
  try {
    await save();
  } catch (error) {
    const { size } = await target.getFile();
    if (size === 0) await target.remove?.();
    throw error;
  }
}

function offer(blob: Blob, name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), DOWNLOAD_MILLISECONDS);
}

function showFailure(error: unknown): void {
  if (isQcow2Error(error, 'ABORTED')) return;
  showNotice({
    title: 'The disk could not be downloaded',
    what: messageOf(error),
    advice:
      'The disk itself is unchanged. If room is short, free some and try again: with snapshots in it, or where the browser lets no page write a file, a download needs room for a second copy here.',
  });
}
