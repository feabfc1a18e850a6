/** What the page says when the disk has no room left. The guest was told with an I/O error; here is what that means, and what helps. */
import type { DiskFault } from 'qcow2-wasm/v86';
import { hideNotice, showNotice } from './notice.js';
import { goToStorage } from './storage-panel.js';

/** What comes after the first is refused as `POISONED`, which says nothing of the cause; so the first notice stays. */
let isTold = false;

/**
 * Tells of a fault that is the lack of room, or its consequence; false for any other. A disk that is opened anew begins anew
 * (`forgetRoomNotice`).
 */
export function showRoomFault({ error }: DiskFault): boolean {
  if (error.code === 'POISONED' && isTold) return true;
  if (error.code !== 'NO_SPACE') return false;
  isTold = true;
  showNotice({
    title: 'This browser has no room left for the disk',
    what: `${error.code}: ${error.message}`,
    advice:
      'The guest was told, and its file system has probably turned read-only. What was flushed before is safe, nothing is damaged. Free some room, then start the guest again: until then the disk takes no more writes.',
    actions: [
      { label: 'See what is stored', run: goToStorage },
      { label: 'Start the guest again', run: () => location.reload() },
      { label: 'Dismiss', run: hideNotice },
    ],
  });
  return true;
}

/** The disk was opened anew. */
export function forgetRoomNotice(): void {
  isTold = false;
}
