/** Has the service worker keep the page. A browser without one, or that refuses it, has a page that needs its server. */
export async function keepPage(): Promise<void> {
  try {
    await navigator.serviceWorker?.register('service-worker.js');
  } catch (error) {
    console.warn('the page is not kept for visits without a network', error);
  }
}

/** Resolves when the page is kept. Rejects where it can't be. */
export async function whenPageIsKept(): Promise<void> {
  if (!('serviceWorker' in navigator)) throw new Error('this browser keeps no pages (service workers)');
  await navigator.serviceWorker.ready;
}
