/** How much of the base image is here, and the button that fetches the rest: pressed again it pauses, and goes on later where it was. */
import { isQcow2Error, type BaseStatus } from 'qcow2-wasm/opfs';
import { messageOf, showNotice } from './notice.js';
import { whenPageIsKept } from './offline-page.js';
import { element, formatBytes, setText } from './page.js';
import type { Session } from './session.js';

const LABEL = 'Make available offline';

/** Shows what is known of the base; none where the disk stands on no base of a server. */
export function showBase(base: BaseStatus | undefined): void {
  const button = element('offline', HTMLButtonElement);
  const isWhole = base !== undefined && base.keptBytes === base.size;
  setText('base-here', base === undefined ? '-' : hereText(base));
  button.hidden = base === undefined || isWhole;
}

export function connectOffline(session: Session): void {
  const button = element('offline', HTMLButtonElement);
  let pause: AbortController | null = null;
  button.addEventListener('click', async () => {
    if (pause !== null) {
      pause.abort();
      return;
    }
    pause = new AbortController();
    try {
      await session.makeAvailableOffline(({ done, total, what }) => {
        const verb = what.startsWith('verifying') ? 'Verifying' : 'Pause';
        button.textContent = `${verb}: ${Math.floor((100 * done) / total)} %`;
      }, pause.signal);
      await whenPageIsKept();
    } catch (error) {
      if (!isQcow2Error(error, 'ABORTED')) showFailure(error);
    } finally {
      pause = null;
      button.textContent = LABEL;
    }
  });
}

function showFailure(error: unknown): void {
  const advice = isQcow2Error(error, 'NO_SPACE')
    ? 'Free some space for this site in the browser settings, then try again. The guest runs on.'
    : 'What came so far is kept: try again when the server can be reached. The guest runs on.';
  showNotice({ title: 'The base image could not be made available offline', what: messageOf(error), advice });
}

function hereText({ keptBytes, size, notKept }: BaseStatus): string {
  const here = keptBytes === size ? `all ${formatBytes(size)}` : `${formatBytes(keptBytes)} of ${formatBytes(size)}`;
  return notKept === null ? here : `${here}; the rest is not kept`;
}
