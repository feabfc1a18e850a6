/**
 * A site on a real port, for tests of what the network does to it: with byte ranges or without, counting the bytes of the base image that leave
 * it, misbehaving on demand, and stopped and started again on the same port (storage belongs to the origin).
 */
import { createReadStream, readFileSync, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';

const TYPES: Record<string, string> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
};

/** What becomes of one request for the base; null answers it well. */
export type SiteFault = null | 'refuse' | 'stall' | 'truncate';

export class SiteServer {
  /** Of the bodies of answers for the base image, its parts, or its manifest. */
  baseBytes = 0;
  /** Requests for them. */
  baseRequests = 0;
  /** Requests for boot profiles. */
  profileRequests = 0;
  /** Answers for the base that are under way, stalled ones too. */
  openAnswers = 0;
  knowsRanges = true;
  etag = '"first"';
  /** Called for each request for the base, counted from 1. */
  fault: (nth: number) => SiteFault = () => null;
  /** Called with the path of each request for anything else. */
  pageFault: (path: string) => SiteFault = () => null;
  /** Of all answers for anything but the base. */
  headers: Record<string, string> = {};
  readonly #mounts: readonly (readonly [string, string])[];
  #server: Server | null = null;
  #port = 0;

  /** @param mounts folders by the path they are seen under, the longest first. */
  constructor(mounts: Record<string, string>) {
    this.#mounts = Object.entries(mounts);
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async start(): Promise<void> {
    const server = createServer((request, response) => this.#answer(request, response));
    await new Promise<void>((resolve) => server.listen(this.#port, '127.0.0.1', resolve));
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  /** Nobody answers on the port any more. */
  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    if (server === null) return;
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  }

  /** Forgets what was counted. */
  resetCounts(): void {
    this.baseBytes = 0;
    this.baseRequests = 0;
    this.profileRequests = 0;
  }

  /** Breaks all connections off, those that stall too. The server stays. */
  dropConnections(): void {
    this.#server?.closeAllConnections();
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = normalize(decodeURIComponent(new URL(request.url ?? '/', 'http://site').pathname));
    const file = this.#file(path);
    if (file === null) {
      response.writeHead(404).end();
      return;
    }
    if (path.endsWith('.profile.json')) this.profileRequests++;
    if (/\.(qcow2|part|split\.json)$/.test(path)) this.#answerForBase(request, response, file);
    else this.#sendPageFile(request, response, file, this.pageFault(path));
  }

  #answerForBase(request: IncomingMessage, response: ServerResponse, file: string): void {
    this.openAnswers++;
    response.once('close', () => this.openAnswers--);
    const fault = this.fault(++this.baseRequests);
    if (fault === 'refuse') request.socket.destroy();
    else this.#sendBase(request, response, file, fault);
  }

  #sendPageFile(request: IncomingMessage, response: ServerResponse, file: string, fault: SiteFault): void {
    if (fault === 'refuse') {
      request.socket.destroy();
      return;
    }
    const content = readFileSync(file);
    const type = TYPES[extname(file)] ?? 'application/octet-stream';
    response.writeHead(200, { 'content-type': type, 'cache-control': 'no-cache', ...this.headers });
    if (fault === null) response.end(content);
    else if (fault === 'stall') response.write(content.subarray(0, content.length / 2));
    else response.write(content.subarray(0, content.length / 2), () => request.socket.destroy());
  }

  #file(path: string): string | null {
    const [prefix, folder] = this.#mounts.find(([mounted]) => path.startsWith(mounted)) ?? ['/', ''];
    const name = path.slice(prefix.length);
    const file = join(folder, name === '' ? 'index.html' : name);
    return statSync(file, { throwIfNoEntry: false })?.isFile() ? file : null;
  }

  #sendBase(request: IncomingMessage, response: ServerResponse, file: string, fault: SiteFault): void {
    const { size } = statSync(file);
    const { range, 'if-range': ifRange } = request.headers;
    const match = this.knowsRanges && (ifRange === undefined || ifRange === this.etag) ? range : undefined;
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(match ?? '') ?? [];
    const start = Number(first ?? 0);
    const end = Math.min(Number(last ?? size - 1), size - 1);
    response.writeHead(first === undefined ? 200 : 206, {
      etag: this.etag,
      'content-type': 'application/octet-stream',
      ...(fault === null ? { 'content-length': end + 1 - start } : {}),
      ...(first === undefined ? {} : { 'content-range': `bytes ${start}-${end}/${size}` }),
    });
    const body = createReadStream(file, { start, end: fault === null ? end : Math.floor((start + end) / 2) });
    body.on('data', (piece) => {
      this.baseBytes += piece.length;
    });
    body.pipe(response, { end: fault !== 'stall' });
  }
}
