/** What the page says where two tabs want one disk, and what each can do about it. */
import type { Opening } from './disk-for-tab.js';
import { messageOf, showNotice } from './notice.js';

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
