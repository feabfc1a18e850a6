/** The panel that says what went wrong and what to do, in words for the code of the error. */
import { isQcow2Error, type ErrorCode } from 'qcow2-wasm/opfs';
import { element } from './page.js';

export interface NoticeAction {
  readonly label: string;
  readonly run: () => void;
}

interface Notice {
  readonly title: string;
  readonly what?: string;
  readonly advice: string;
  readonly actions?: readonly NoticeAction[];
  readonly calm?: boolean;
}

const RELOAD: NoticeAction = { label: 'Try again', run: () => location.reload() };
const DISMISS: NoticeAction = { label: 'Dismiss', run: hideNotice };

export function hideNotice(): void {
  element('notice', HTMLElement).hidden = true;
}

export function showNotice(notice: Notice): void {
  const panel = element('notice', HTMLElement);
  panel.classList.toggle('calm', notice.calm === true);
  panel.querySelector('h2')!.textContent = notice.title;
  const what = panel.querySelector<HTMLElement>('.what')!;
  what.textContent = notice.what ?? '';
  what.hidden = notice.what === undefined;
  panel.querySelector('.advice')!.textContent = notice.advice;
  panel.querySelector('.actions')!.replaceChildren(...(notice.actions ?? [DISMISS]).map(actionButton));
  panel.hidden = false;
  panel.scrollIntoView({ block: 'nearest' });
}

function actionButton({ label, run }: NoticeAction): HTMLButtonElement {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = label;
  button.addEventListener('click', run);
  return button;
}

/** What to do about a request that the disk could not carry out. */
export function adviceForFault(code: ErrorCode): string {
  switch (code) {
    case 'NO_SPACE':
    case 'POISONED':
      return 'The guest was told, and its file system has probably turned read-only. Free some space and reload: what was flushed before is safe.';
    case 'NETWORK':
      return 'The guest was told with an I/O error, and asks again when it needs the same. What it wrote is safe. “Make available offline” does without the server.';
    case 'BASE_CHANGED':
      return 'The parts of the base image that are not here yet can’t be had any more, so this disk is incomplete. What was written is safe in its file; “Reset” makes a fresh disk over the new base.';
    default:
      return 'The guest was told with an I/O error. What was flushed before is safe; download the disk if you want to look at it.';
  }
}

/** The page can't go on, but not for another tab (`tab-notice.ts`). `reset` is offered where a fresh disk would help. */
export function showFatal(error: unknown, reset: () => void): void {
  const what = messageOf(error);
  const startOver: NoticeAction = { label: 'Start with a fresh disk', run: reset };
  if (isQcow2Error(error, 'NO_SPACE')) {
    showNotice({
      title: 'This browser has no room left for the disk',
      what,
      advice: 'Free some space for this site in the browser settings, then try again. What was flushed is safe.',
      actions: [RELOAD],
    });
  } else if (isQcow2Error(error, 'NETWORK') || isQcow2Error(error, 'NOT_FOUND')) {
    showNotice({
      title: 'The base image could not be fetched',
      what,
      advice: 'Try again when the server can be reached. A disk that was made available offline starts without it.',
      actions: [RELOAD],
    });
  } else if (isQcow2Error(error, 'BASE_CHANGED')) {
    showNotice({
      title: 'The base image on the server is another one by now',
      what,
      advice:
        'The stored disk stands on the old one, which is not all here. Start with a fresh disk: this throws the stored one away.',
      actions: [RELOAD, startOver],
    });
  } else if (isQcow2Error(error, 'WORKER_DIED')) {
    showNotice({
      title: 'The worker that holds the disk has ended',
      what,
      advice: 'Everything the guest had flushed is in the file. Reload to boot from it.',
      actions: [RELOAD],
    });
  } else {
    showNotice({
      title: 'The guest could not be started',
      what,
      advice: 'Try again. If the disk itself is the problem, start with a fresh one: this throws the stored disk away.',
      actions: [RELOAD, startOver],
    });
  }
}

/** The image was refused; nothing has changed. */
export function showRefusedImage(error: unknown): void {
  const advice = isQcow2Error(error, 'BACKING')
    ? 'The image needs another file below it. Make it standalone first: qemu-img convert -O qcow2 image.qcow2 whole.qcow2'
    : 'The disk you had is unchanged and its guest runs on. Choose another qcow2 image.';
  showNotice({ title: 'That image cannot be used', what: messageOf(error), advice });
}

/** Something with a passphrase did not work, and its dialog is closed. */
export function showPassphraseFailure(title: string, error: unknown): void {
  showNotice({
    title,
    what: messageOf(error),
    advice: 'Nothing has changed: the disk and its passphrase are what they were, and the guest runs on.',
  });
}

const SNAPSHOT_TITLES = {
  save: 'The snapshot could not be taken',
  load: 'The snapshot could not be restored',
  delete: 'The snapshot could not be deleted',
  list: 'The snapshots of this disk could not be read',
  checkpoint: 'A checkpoint could not be taken, so there will be no more',
} as const;

/** Something with a snapshot did not work. */
export function showSnapshotFailure(task: keyof typeof SNAPSHOT_TITLES, error: unknown): void {
  // The end of the worker has a panel of its own.
  if (isQcow2Error(error, 'WORKER_DIED') || isQcow2Error(error, 'CLOSED')) return;
  const reload: NoticeAction = { label: 'Reload', run: () => location.reload() };
  showNotice({
    title: SNAPSHOT_TITLES[task],
    what: messageOf(error),
    advice: snapshotAdvice(error),
    ...(isStorageFailure(error) ? { actions: [reload, DISMISS] } : {}),
  });
}

/** The image may be written to no more: what is on its way to the file is lost. Not so if there was no room to begin with. */
function isStorageFailure(error: unknown): boolean {
  return isQcow2Error(error, 'IO') || isQcow2Error(error, 'POISONED');
}

function snapshotAdvice(error: unknown): string {
  if (isStorageFailure(error)) {
    return 'The disk takes no more writes until it is opened again. Reload the page: what was flushed is safe.';
  }
  const code = isQcow2Error(error) ? error.code : null;
  if (code === 'NO_SPACE') {
    return 'The guest runs on. Delete a snapshot, or free some space for this site in the browser settings, then try again.';
  }
  if (code === 'LIMIT' || code === 'UNSUPPORTED') {
    return 'The guest runs on, and the disk is unchanged. Not every image can hold snapshots: download the disk and open that one instead.';
  }
  if (code === 'BAD_ARGUMENT' || code === 'NOT_FOUND') return 'The guest runs on, and nothing has changed.';
  if (code === 'V86_SEAM') {
    return 'The snapshot itself is whole. If the guest stands still now, restore another one, or reload the page to boot.';
  }
  return 'The guest runs on, and the snapshots there were are whole. Try again; if it stays, download the disk and reload.';
}

export function messageOf(error: unknown): string {
  if (isQcow2Error(error)) return `${error.code}: ${error.message}`;
  return error instanceof Error ? error.message : String(error);
}
