/** What the page says where two tabs want one disk, and what each can do about it. */
import type { Opening } from './disk-for-tab.js';
import { hideNotice, messageOf, showNotice } from './notice.js';
import { element } from './page.js';

/** The disk is another tab's. @param start opens the disk anew, in the way that the visitor chooses. */
export function showInUse(error: unknown, start: (opening: Opening) => void): void {
  showNotice({
    title: 'This disk is in use in another tab',
    what: messageOf(error),
    advice:
      'A disk has one writer, so that two guests cannot damage it. Take it over: the guest over there is switched off, and what it had synced is here. Or run a guest beside it on a disk of its own, which is thrown away with this tab.',
    actions: [
      { label: 'Take it over', run: () => start('take-over') },
      { label: 'Run a throw-away guest', run: () => start('throw-away') },
      { label: 'Try again', run: () => start('wait') },
    ],
  });
}

/** The disk was this tab's, and is another one's now. */
export function showDiskGone(start: (opening: Opening) => void): void {
  showNotice({
    title: 'This disk went to another tab',
    advice:
      'Its guest was switched off, and what it had synced is in the file. Taken back, the disk boots here, and stops there.',
    actions: [
      { label: 'Take it back', run: () => start('take-over') },
      { label: 'Run a throw-away guest', run: () => start('throw-away') },
    ],
    calm: true,
  });
}

/** What was asked for waits until another image is in, of this tab or another one. Call what it returns when that is over. */
export function showWaitingAtDoor(): () => void {
  const title = 'This waits for another image to come in';
  showNotice({
    title,
    advice:
      'One at a time comes in, in all tabs of this browser. It goes on when the other one is in or given up; maybe that one asks for its passphrase in another tab.',
    calm: true,
  });
  const panel = element('notice', HTMLElement);
  return () => {
    // Something else may be said there by now.
    if (panel.querySelector('h2')!.textContent === title) hideNotice();
  };
}
