/**
 * Keeps the page for visits without a network: its files, v86's WASM, the BIOS. The disk is none of its business: a base image is kept in OPFS,
 * by ranges, and a request for one goes by.
 *
 *   install    all files of this build into a cache of its own, each checked against its digest: all of them, or it fails and nothing changes
 *   waiting    until no page of the build before is open, or the only one asks to have this one now
 *   activate   the caches of other builds go
 *   fetch      what is kept is answered from this build's cache; the server is asked for everything else
 *
 * Invariant: a page that it controls has all files from one build. So it never takes over a page that is open (no `clients.claim()`), and a
 * server that has half of an update, or a slow line, leaves the page what it was. What a library would bring is to choose among
 * strategies, and there is one.
 */

/** The part of the scope of a service worker that is used here; TypeScript's library has it for service workers only. */
interface ServiceWorkerScope {
  readonly registration: { readonly scope: string };
  readonly clients: {
    matchAll(options: { type: 'window'; includeUncontrolled: boolean }): Promise<readonly { readonly url: string }[]>;
  };
  skipWaiting(): Promise<void>;
  addEventListener(type: 'install' | 'activate', listener: (event: ExtendableEvent) => void): void;
  addEventListener(type: 'fetch', listener: (event: FetchEvent) => void): void;
  addEventListener(type: 'message', listener: (event: MessageFromPage) => void): void;
}

interface ExtendableEvent {
  waitUntil(work: Promise<unknown>): void;
}

interface FetchEvent extends ExtendableEvent {
  readonly request: Request;
  respondWith(answer: Promise<Response>): void;
}

/** The only message there is: the page wants this build now. The answer, through its port, is whether it gets it. */
interface MessageFromPage extends ExtendableEvent {
  readonly ports: readonly MessagePort[];
}

/** Put in by the build (demo/page-build.mjs): the page's files with their digests as `integrity` has them, and the digest of all. */
declare const PAGE: { readonly build: string; readonly files: readonly (readonly [path: string, integrity: string])[] };

const scope = globalThis as unknown as ServiceWorkerScope;
const home = scope.registration.scope;

/** Of this page alone: another one of the origin has caches, too. */
const CACHE_PREFIX = `qcow2-wasm-demo ${home} `;
const CACHE = CACHE_PREFIX + PAGE.build;

const kept = new Map(PAGE.files.map(([path, integrity]) => [new URL(path, home).href, integrity]));

scope.addEventListener('install', (event) => event.waitUntil(keepAll()));
scope.addEventListener('activate', (event) => event.waitUntil(deleteOtherBuilds()));
scope.addEventListener('message', (event) => event.waitUntil(takeOver(event.ports[0])));
scope.addEventListener('fetch', (event) => {
  const { request } = event;
  const url = keptUrl(request.url);
  if (request.method === 'GET' && !request.headers.has('range') && kept.has(url)) {
    event.respondWith(answer(request, url));
  }
});

/** All or none: half a page is no page. One that is there is whole, and somebody's. */
async function keepAll(): Promise<void> {
  const cache = await caches.open(CACHE);
  if ((await cache.keys()).length >= kept.size) return;
  try {
    await cache.addAll([...kept].map(([url, integrity]) => new Request(url, { cache: 'no-cache', integrity })));
  } catch (error) {
    await caches.delete(CACHE);
    throw error;
  }
}

async function deleteOtherBuilds(): Promise<void> {
  const names = (await caches.keys()).filter((name) => name.startsWith(CACHE_PREFIX) && name !== CACHE);
  await Promise.all(names.map((name) => caches.delete(name)));
}

/** Not while another tab has the page open: it would be reloaded, and its guest with it. */
async function takeOver(port: MessagePort | undefined): Promise<void> {
  const windows = await scope.clients.matchAll({ type: 'window', includeUncontrolled: true });
  const isOnly = windows.filter(({ url }) => keptUrl(url) === home).length <= 1;
  port?.postMessage(isOnly);
  if (isOnly) await scope.skipWaiting();
}

/** The server is asked only where somebody has emptied the cache by hand. */
async function answer(request: Request, url: string): Promise<Response> {
  return (await caches.match(url, { cacheName: CACHE })) ?? fetch(request);
}

/** The page is one file, whatever its address asks of it, and goes by two names. */
function keptUrl(address: string): string {
  const url = new URL(address);
  url.search = '';
  url.hash = '';
  return url.href === new URL('index.html', home).href ? home : url.href;
}
