/**
 * Keeps the page for visits without a network: its files, v86's WASM, the BIOS. The disk is none of its business: a base image is kept in OPFS,
 * by ranges, and a request for one goes by.
 *
 * The server comes first, the kept copy where it does not answer: a page that was updated is seen at once, and no visitor is left with an old
 * one. Fifty lines, so no library: what one would bring is to choose among strategies, and there is one.
 */

/** The part of the scope of a service worker that is used here; TypeScript's library has it for service workers only. */
interface ServiceWorkerScope {
  readonly registration: { readonly scope: string };
  readonly clients: { claim(): Promise<void> };
  skipWaiting(): Promise<void>;
  addEventListener(type: 'install' | 'activate', listener: (event: ExtendableEvent) => void): void;
  addEventListener(type: 'fetch', listener: (event: FetchEvent) => void): void;
}

interface ExtendableEvent {
  waitUntil(work: Promise<unknown>): void;
}

interface FetchEvent extends ExtendableEvent {
  readonly request: Request;
  respondWith(answer: Promise<Response>): void;
}

/** The names of the page's files, put in by the build. */
declare const PAGE_FILES: readonly string[];

const CACHE = 'qcow2-wasm-demo page';

/** A server that does not answer for so long is not there. */
const PATIENCE_MILLISECONDS = 4000;

const scope = globalThis as unknown as ServiceWorkerScope;
const kept = new Set(PAGE_FILES.map((name) => new URL(name, scope.registration.scope).href));

scope.addEventListener('install', (event) => event.waitUntil(keepAll().then(() => scope.skipWaiting())));
scope.addEventListener('activate', (event) => event.waitUntil(scope.clients.claim()));
scope.addEventListener('fetch', (event) => {
  const { request } = event;
  const url = withoutQuery(request.url);
  if (request.method === 'GET' && !request.headers.has('range') && kept.has(url))
    event.respondWith(answer(request, url));
});

/** All or none: half a page is no page. */
async function keepAll(): Promise<void> {
  const cache = await caches.open(CACHE);
  await cache.addAll([...kept].map((url) => new Request(url, { cache: 'no-cache' })));
}

async function answer(request: Request, url: string): Promise<Response> {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request, { signal: AbortSignal.timeout(PATIENCE_MILLISECONDS) });
    if (response.ok) await cache.put(url, response.clone());
    return response;
  } catch (error) {
    const copy = await cache.match(url);
    if (copy !== undefined) return copy;
    throw error;
  }
}

/** The page is one file, whatever its address asks of it. */
function withoutQuery(address: string): string {
  const url = new URL(address);
  url.search = '';
  url.hash = '';
  return url.href;
}
