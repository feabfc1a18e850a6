/**
 * A site that goes on without a network: the base image is fetched while the visitor works, and a service worker of the site keeps the
 * page. The button starts, pauses and goes on.
 */
import { isQcow2Error, openDisk, type OpfsDisk } from 'qcow2-wasm/opfs';

/** The overlay in OPFS, over `linux.qcow2` of the site; `linux.qcow2.profile.json` is what `bootProfile()` gave after a boot. */
export function openOverlay(): Promise<OpfsDisk> {
  return openDisk({
    name: 'mine.qcow2',
    create: { backing: { name: 'linux', format: 'qcow2' } },
    backing: [{ name: 'linux', url: '/linux.qcow2', profile: '/linux.qcow2.profile.json' }],
  });
}

export async function connectOfflineButton(disk: OpfsDisk, button: HTMLButtonElement): Promise<void> {
  await navigator.serviceWorker.register('/service-worker.js');
  let pause: AbortController | null = null;
  button.addEventListener('click', async () => {
    if (pause !== null) return pause.abort();
    pause = new AbortController();
    try {
      await disk.makeAvailableOffline({
        signal: pause.signal,
        onProgress: ({ done, total }) => (button.textContent = `Pause (${Math.floor((100 * done) / total)} %)`),
      });
      button.textContent = 'Works offline';
      button.disabled = true;
    } catch (error) {
      // NO_SPACE, NETWORK, BASE_CHANGED: what is here stays, and the next click goes on where this one was.
      button.textContent = isQcow2Error(error, 'ABORTED') ? 'Go on' : `Try again (${(error as Error).message})`;
    } finally {
      pause = null;
    }
  });
}
