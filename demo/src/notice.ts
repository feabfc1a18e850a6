/** The panel that says what went wrong and what to do, in words for the code of the error. */
import { isQcow2Error, type ErrorCode } from 'qcow2-wasm/opfs';
import type { DiskFault } from 'qcow2-wasm/v86';
import { noticeOfBase } from './base-notice.js';
import type { SeenDisk } from './disk-ledger.js';
import { messageOf, RELOAD, type Notice, type NoticeAction } from './notice-parts.js';
import { currentState, element } from './page.js';
import { age } from './time-words.js';

export { messageOf };

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

/** Shows it when nothing else is left to be read: what went wrong is not replaced, what is only good to know is. */
export function showNoticeInTurn(notice: Notice): void {
  const panel = element('notice', HTMLElement);
  if (panel.hidden || panel.classList.contains('calm')) return showNotice(notice);
  const dismissed = new MutationObserver(() => {
    if (!panel.hidden) return;
    dismissed.disconnect();
    showNotice(notice);
  });
  dismissed.observe(panel, { attributeFilter: ['hidden'] });
}

function actionButton({ label, run }: NoticeAction): HTMLButtonElement {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = label;
  button.addEventListener('click', run);
  return button;
}

/** What to do about a request that the disk could not carry out. */
function adviceForFault(code: ErrorCode): string {
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

/** A request of the guest that the disk could not carry out. */
export function showFault({ operation, error }: DiskFault): void {
  // The end of the worker has a panel of its own.
  if (error.code === 'WORKER_DIED' || error.code === 'CLOSED') return;
  showNotice({
    title: `The disk could not carry out a ${operation}`,
    what: `${error.code}: ${error.message}`,
    advice: adviceForFault(error.code),
  });
}

export function showPoweredOff(restart: () => void): void {
  showNotice({
    title: 'The guest has powered off',
    advice: 'Its disk is safe: everything it wrote is in the file.',
    actions: [{ label: 'Start it again', run: restart }],
    calm: true,
  });
}

export interface MissingDisk {
  readonly name: string;
  /** As it was seen last, where this page has not deleted it. */
  readonly cleared: SeenDisk | null;
}

/** The address names a disk that is not there. */
export function showMissingDisk({ name, cleared }: MissingDisk, actions: readonly NoticeAction[]): void {
  showNotice({
    title:
      cleared === null ? `There is no disk “${name}” in this browser` : `The browser has cleared the disk “${name}”`,
    advice:
      cleared === null
        ? 'The address of this page names it. It was renamed or deleted, or is in another browser.'
        : `It was last here ${age(new Date(cleared.lastSeen))}. This page did not delete it: browsers clear what a site has stored when room is short, or when they are told to.`,
    actions,
  });
}

/** The page can't go on, but not for another tab (`tab-notice.ts`). `reset` is offered where a fresh disk would help. */
export function showFatal(error: unknown, reset: () => void): void {
  const what = messageOf(error);
  const startOver: NoticeAction = { label: 'Start with a fresh disk', run: reset };
  const ofBase = noticeOfBase(error, startOver);
  if (ofBase !== null) showNotice(ofBase);
  else if (isQcow2Error(error, 'NO_SPACE')) {
    showNotice({
      title: 'This browser has no room left for the disk',
      what,
      advice: 'Free some space for this site in the browser settings, then try again. What was flushed is safe.',
      actions: [RELOAD],
    });
  } else if (isQcow2Error(error, 'WORKER_DIED')) {
    showNotice({
      title: 'The worker that holds the disk has ended',
      what,
      advice: 'Everything the guest had flushed is in the file. Reload to boot from it.',
      actions: [RELOAD],
    });
  } else if (isQcow2Error(error)) {
    showNotice({
      title: 'The guest could not be started',
      what,
      advice: 'Try again. If the disk itself is the problem, start with a fresh one: this throws the stored disk away.',
      actions: [RELOAD, startOver],
    });
  } else {
    // What is no error of the disk's, a fresh one does not mend.
    showNotice({ title: 'The guest could not be started', what, advice: 'Try again.', actions: [RELOAD] });
  }
}

/** No fresh disk could be made, so the one there was has stayed. */
export function showRefusedReset(error: unknown): void {
  const remedy = isQcow2Error(error, 'NO_SPACE')
    ? 'Free some space for this site in the browser settings, then try again.'
    : isQcow2Error(error, 'IN_USE')
      ? 'See which one is open here now, and reset that if you wish.'
      : 'Try again when its base image can be had.';
  showNotice({
    title: 'A fresh disk could not be made',
    what: messageOf(error),
    advice: `The disk that there is has not been touched. ${remedy}`,
    actions: currentState() === 'error' ? [RELOAD] : [DISMISS],
  });
}

/** The disk that the page missed could not be made. */
export function showUnmadeDisk(name: string, error: unknown): void {
  const isThere = isQcow2Error(error, 'BAD_ARGUMENT');
  showNotice({
    title: isThere ? `There is a disk “${name}” by now` : `“${name}” could not be made`,
    what: messageOf(error),
    advice: isThere
      ? 'It was made or renamed in another tab meanwhile, and has not been touched. Try again to start it.'
      : 'Nothing has changed. Try again when its base image can be had, and there is room.',
    actions: [RELOAD],
  });
}

/** The image was refused; nothing has changed. */
export function showRefusedImage(error: unknown): void {
  showNotice({ title: 'That image cannot be used', what: messageOf(error), advice: adviceForImage(error) });
}

function adviceForImage(error: unknown): string {
  switch (isQcow2Error(error) ? error.code : null) {
    case 'BACKING':
      return 'The image needs another file below it. Make it standalone first: qemu-img convert -O qcow2 image.qcow2 whole.qcow2';
    case 'NETWORK':
    case 'NOT_FOUND':
      return 'The server must have the file, and let other sites read it (CORS). Or download the image yourself and open the file.';
    case 'NO_SPACE':
      return 'Delete a disk, or free some space for this site in the browser settings, then try again. The guest runs on.';
    default:
      return 'The disks you have are unchanged and the guest runs on. Choose another image, qcow2 or raw.';
  }
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
