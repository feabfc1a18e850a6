/**
 * The demo's web server, for this machine only: demo/dist/ at `/` and demo/guest/ at `/guest/`.
 *
 * Files are looked up anew for each request and revalidated by the browser each time; what is rebuilt is seen once the page,
 * which its service worker keeps, has taken the new version. One byte range per request is answered (RFC 9110, section 14), of any of its three forms.
 */
import { once } from 'node:events';
import { closeSync, createReadStream, fstatSync, openSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { pipeline } from 'node:stream';
import { fileURLToPath } from 'node:url';

const HOST = '127.0.0.1';
const PAGE_FOLDER = fileURLToPath(new URL('dist', import.meta.url));
const GUEST_FOLDER = fileURLToPath(new URL('guest', import.meta.url));
const GUEST_PREFIX = '/guest/';

const CONTENT_TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.map': 'application/json',
  '.txt': 'text/plain; charset=utf-8',
  '.wasm': 'application/wasm',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.woff2': 'font/woff2',
};

/**
 * @param {{ port?: number }} [options] port 0 takes any free one
 * @returns {Promise<{ url: string, close(): Promise<void> }>} the address ends in `/`
 * @throws {Error} with a plain message when the port is taken or not allowed
 */
export async function serve({ port = 8086 } = {}) {
  const server = createServer(answer);
  try {
    server.listen(port, HOST);
    await once(server, 'listening');
  } catch (error) {
    throw new Error(whyNotListening(error, port), { cause: error });
  }
  const close = async () => {
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  };
  return { url: `http://${HOST}:${server.address().port}/`, close };
}

/** @param {NodeJS.ErrnoException} error @param {number} port */
function whyNotListening(error, port) {
  if (error.code === 'EADDRINUSE') {
    return `Port ${port} is in use by another program. Choose another one: PORT=${port + 1} npm start`;
  }
  if (error.code === 'EACCES') return `Port ${port} may not be opened by this user. Choose one above 1023 with PORT.`;
  return `The demo can't be served on port ${port}: ${error.message}`;
}

/** @typedef {{ path: string, descriptor: number, stats: import('node:fs').Stats }} OpenFile */

/** @type {import('node:http').RequestListener} */
function answer(request, response) {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.writeHead(405, { Allow: 'GET, HEAD' }).end();
    return;
  }
  const path = filePath(request.url ?? '/');
  const file = path && openFile(path);
  if (!file) {
    response.writeHead(404, { 'Content-Type': 'text/plain' }).end('Not found\n');
    return;
  }
  const range = sendHeaders(request, response, file);
  if (range === null) {
    closeSync(file.descriptor);
    response.end();
    return;
  }
  // The stream closes the file. A failure in the middle (the visitor left) ends the connection: there is nobody to tell.
  const { first, last } = range;
  pipeline(createReadStream(file.path, { fd: file.descriptor, start: first, end: last }), response, () => {});
}

/**
 * Opened once for headers and contents: a file that is replaced meanwhile goes out as it was, under its own ETag.
 * @param {string} path
 * @returns {OpenFile | undefined} undefined where there is no such file
 */
function openFile(path) {
  let descriptor;
  try {
    descriptor = openSync(path, 'r');
  } catch {
    return undefined;
  }
  const stats = fstatSync(descriptor);
  if (stats.isFile()) return { path, descriptor, stats };
  closeSync(descriptor);
  return undefined;
}

/**
 * @param {string} url path and query of the request
 * @returns {string | undefined} undefined for what is not served: hidden files and whatever leaves the two folders
 */
function filePath(url) {
  let pathname;
  try {
    // Parsing takes `..` away, encoded ones too, so the path can't leave its folder.
    pathname = decodeURIComponent(new URL(url, 'http://localhost').pathname);
  } catch {
    return undefined;
  }
  if (/\0|\/\.|\\/.test(pathname)) return undefined;
  if (pathname.startsWith(GUEST_PREFIX)) return join(GUEST_FOLDER, pathname.slice(GUEST_PREFIX.length));
  return join(PAGE_FOLDER, pathname.endsWith('/') ? `${pathname}index.html` : pathname);
}

/**
 * @param {import('node:http').IncomingMessage} request
 * @param {import('node:http').ServerResponse} response
 * @param {OpenFile} file
 * @returns {{ first: number, last: number } | null} the bytes to be sent; null for none
 */
function sendHeaders(request, response, { path, stats }) {
  const { size, mtime, mtimeMs, ino } = stats;
  const etag = `"${[size, Math.floor(mtimeMs * 1000), ino].map((number) => number.toString(16)).join('-')}"`;
  const headers = {
    'Content-Type': CONTENT_TYPES[extname(path)] ?? 'application/octet-stream',
    'Cache-Control': 'no-cache',
    'Accept-Ranges': 'bytes',
    'Last-Modified': mtime.toUTCString(),
    ETag: etag,
  };
  if (request.headers['if-none-match'] === etag) {
    response.writeHead(304, headers);
    return null;
  }
  const ifRange = request.headers['if-range'];
  // A range is of a GET; HEAD tells of the whole file.
  const asked =
    request.method === 'GET' && (ifRange === undefined || ifRange === etag) ? request.headers.range : undefined;
  const range = parseRange(asked, size);
  if (range === 'unsatisfiable') {
    response.writeHead(416, { ...headers, 'Content-Range': `bytes */${size}` });
    return null;
  }
  const { first, last } = range === 'whole' ? { first: 0, last: size - 1 } : range;
  if (range !== 'whole') headers['Content-Range'] = `bytes ${first}-${last}/${size}`;
  response.writeHead(range === 'whole' ? 200 : 206, { ...headers, 'Content-Length': last - first + 1 });
  return request.method === 'HEAD' || last < first ? null : { first, last };
}

/**
 * @param {string | undefined} header
 * @param {number} sizeBytes of the file
 * @returns {'whole' | 'unsatisfiable' | { first: number, last: number }} `whole` also for what is no single byte range
 */
function parseRange(header, sizeBytes) {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? '');
  if (!match || (match[1] === '' && match[2] === '')) return 'whole';
  const [first, last] =
    match[1] === ''
      ? [Math.max(0, sizeBytes - Number(match[2])), match[2] === '0' ? -1 : sizeBytes - 1]
      : [Number(match[1]), match[2] === '' ? sizeBytes - 1 : Math.min(Number(match[2]), sizeBytes - 1)];
  if (match[1] !== '' && match[2] !== '' && Number(match[2]) < Number(match[1])) return 'whole';
  return first >= sizeBytes || last < first ? 'unsatisfiable' : { first, last };
}
