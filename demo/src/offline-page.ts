/**
 * The page itself, kept by its service worker (service-worker.ts) for visits without a network, and what is said of a newer one.
 *
 * A browser without service workers, or that refuses them (no secure context, a policy, a private window, no room), has a page that
 * needs its server. Who only visits need not know; who wants to do without the network is told.
 */
import { Qcow2Error } from 'qcow2-wasm/opfs';
import { element, setText } from './page.js';

let isKept = false;

/** Starts to keep the page. `beforeReload` comes before a newer page takes its place. */
export async function keepPage(beforeReload: () => Promise<void>): Promise<void> {
  try {
    const registration = await register();
    void navigator.serviceWorker.ready.then(() => {
      isKept = true;
    });
    watchForNewVersion(registration, beforeReload);
  } catch (error) {
    console.warn('the page is not kept for visits without a network', error);
  }
}

/** Whether the page opens without a network, as far as is known by now. */
export function isPageKept(): boolean {
  return isKept;
}

/** Resolves when the page is kept; tries once more where that failed. @throws Qcow2Error `UNSUPPORTED`, `NETWORK`, `ABORTED`. */
export async function whenPageIsKept(signal?: AbortSignal): Promise<void> {
  // An attempt that was under way may fail by what has been mended since, a lack of room say: that is not this one's answer.
  const earlier = (await navigator.serviceWorker?.getRegistration().catch(() => undefined))?.installing;
  if (earlier) await whenInstalled(earlier, signal).catch(() => undefined);
  if (signal?.aborted) throw givenUp();
  const registration = await register();
  const worker = registration.installing ?? registration.waiting;
  // One of an earlier build is as good: it has all of its page.
  if (registration.active === null && worker !== null) await whenInstalled(worker, signal);
  isKept = true;
}

function whenInstalled(worker: ServiceWorker, signal: AbortSignal | undefined): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    const settle = (): void => {
      if (worker.state === 'redundant') {
        reject(
          new Qcow2Error(
            'NETWORK',
            'the page was not kept: one of its files did not come, is of another version than the others, or there is no room for all of them',
          ),
        );
      } else if (worker.state !== 'installing') resolve();
    };
    worker.addEventListener('statechange', settle);
    signal?.addEventListener('abort', () => reject(givenUp()));
    settle();
  });
}

function givenUp(): Qcow2Error {
  return new Qcow2Error('ABORTED', 'keeping the page was given up');
}

/** @throws Qcow2Error `UNSUPPORTED` with the browser's reason, `NETWORK` where the worker itself did not come. */
async function register(): Promise<ServiceWorkerRegistration> {
  if (!('serviceWorker' in navigator)) {
    throw new Qcow2Error('UNSUPPORTED', 'this browser keeps no pages here (it has no service workers)');
  }
  try {
    return await navigator.serviceWorker.register('service-worker.js');
  } catch (error) {
    // A refusal is a DOMException.
    const code = error instanceof TypeError ? 'NETWORK' : 'UNSUPPORTED';
    const reason = error instanceof Error ? error.message : String(error);
    throw new Qcow2Error(code, `this browser does not keep the page (service worker): ${reason}`, { cause: error });
  }
}

/** Offers the newer page once it is here, whole. Who does nothing gets it on the next visit. */
function watchForNewVersion(registration: ServiceWorkerRegistration, beforeReload: () => Promise<void>): void {
  const notice = element('new-version', HTMLElement);
  const showIfReady = (): void => {
    // The first one that is kept is this page.
    notice.hidden = registration.waiting === null || registration.active === null;
  };
  const watchInstalling = (): void => {
    registration.installing?.addEventListener('statechange', showIfReady);
  };
  registration.addEventListener('updatefound', watchInstalling);
  watchInstalling();
  showIfReady();
  element('new-version-load', HTMLButtonElement).addEventListener('click', async () => {
    await beforeReload().catch((error: unknown) => console.warn('the last writes are not flushed', error));
    if (!(await takeNewVersion(registration))) setText('new-version-text', 'Close the other tabs of this page first.');
  });
  // Files of two builds must not meet in one page, so one whose keeper changes starts anew.
  if (navigator.serviceWorker.controller !== null) {
    navigator.serviceWorker.addEventListener('controllerchange', () => location.reload());
  }
}

/** Reloads once the newer page is in charge. False: it does not take over while another tab has the old one. */
async function takeNewVersion({ waiting }: ServiceWorkerRegistration): Promise<boolean> {
  waiting?.addEventListener('statechange', () => {
    if (waiting.state === 'activated') location.reload();
  });
  // Another tab may have been quicker.
  if (waiting === null) location.reload();
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.addEventListener('message', ({ data }) => resolve(data === true), { once: true });
    port1.start();
    waiting?.postMessage('take over', [port2]);
  });
}
