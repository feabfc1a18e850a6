/**
 * How much of the base image is here, and the button that fetches the rest and has the page itself kept: pressed again it pauses, and goes on
 * later where it was. It goes once there is nothing left to be done.
 */
import { isQcow2Error, type BaseStatus } from 'qcow2-wasm/opfs';
import { messageOf, showNotice } from './notice.js';
import { isPageKept, whenPageIsKept } from './offline-page.js';
import { element, formatBytes, setText } from './page.js';
import type { Session } from './session.js';

const LABEL = 'Make available offline';

/** Shows what is known of the base; none where the disk stands on no base of a server. */
export function showBase(base: BaseStatus | undefined): void {
  const button = element('offline', HTMLButtonElement);
  const isWhole = base !== undefined && base.keptBytes === base.size;
  setText('base-here', base === undefined ? '-' : hereText(base));
  button.hidden = base === undefined || (isWhole && isPageKept());
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
    const { signal } = pause;
    try {
      await session.makeAvailableOffline(({ done, total, what }) => {
        const verb = what.startsWith('verifying') ? 'Verifying' : 'Pause';
        button.textContent = `${verb}: ${Math.floor((100 * done) / total)} %`;
      }, signal);
      button.textContent = 'Keeping the page…';
      await whenPageIsKept(signal).catch(showPageFailure);
    } catch (error) {
      showBaseFailure(error);
    } finally {
      pause = null;
      button.textContent = LABEL;
    }
  });
}

function showBaseFailure(error: unknown): void {
  if (isQcow2Error(error, 'ABORTED')) return;
  const advice = isQcow2Error(error, 'NO_SPACE')
    ? 'Free some space for this site in the browser settings, then try again. The guest runs on.'
    : 'What came so far is kept: try again when the server can be reached. The guest runs on.';
  showNotice({ title: 'The base image could not be made available offline', what: messageOf(error), advice });
}

function showPageFailure(error: unknown): void {
  if (isQcow2Error(error, 'ABORTED')) return;
  const advice = isQcow2Error(error, 'UNSUPPORTED')
    ? 'The disk and its base image are here, but the page has to come from its server on each visit. A private window, a policy, or a page without https may be the reason.'
    : 'The disk and its base image are here. Try again when the server can be reached and there is room for the page.';
  showNotice({ title: 'The page itself could not be kept', what: messageOf(error), advice });
}

function hereText({ keptBytes, size, notKept }: BaseStatus): string {
  const here = keptBytes === size ? `all ${formatBytes(size)}` : `${formatBytes(keptBytes)} of ${formatBytes(size)}`;
  return notKept === null ? here : `${here}; the rest is not kept`;
}
