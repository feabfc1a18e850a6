/** A base image on a fake server, opened and read, for the tests of this folder. */
import { afterEach } from 'vitest';
import { Qcow2Error } from '../../src/errors.js';
import type { NetworkBase } from '../../src/network/network-base.js';
import {
  openNetworkBase,
  type BaseAddress,
  type NetworkHost,
  type OpenBaseOptions,
} from '../../src/network/open-base.js';
import { settle } from '../../src/storage/not-resident.js';
import { patternBytes } from '../storage/conformance.js';
import { FakeServer } from './fake-server.js';

export const URL_OF_BASE = 'https://example.test/base.img';
export const CHUNK = 64 * 1024;
export const SIZE = 20 * CHUNK + 777;
export const ADDRESS: BaseAddress = { url: URL_OF_BASE, chunkBytes: CHUNK };

const opened: NetworkBase[] = [];

/** Call it once in a test file. */
export function closeBasesAfterEach(): void {
  afterEach(() => {
    for (const base of opened.splice(0)) base.close();
  });
}

export async function open(host: NetworkHost, options: OpenBaseOptions = {}, address = ADDRESS): Promise<NetworkBase> {
  const base = await openNetworkBase(host, address, options);
  opened.push(base);
  return base;
}

export function served(content = patternBytes(SIZE), etag: string | null = '"v1"'): FakeServer {
  const server = new FakeServer();
  server.put(URL_OF_BASE, content, etag);
  return server;
}

export async function readAt(base: NetworkBase, offset: number, length: number): Promise<Uint8Array> {
  const target = new Uint8Array(length).fill(0xa5);
  await settle(() => base.read(offset, target));
  return target;
}

/** What `work` rejects with. */
export async function errorOf(work: Promise<unknown>): Promise<Qcow2Error> {
  const error = await work.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (error instanceof Qcow2Error) return error;
  throw new Error(`expected a Qcow2Error, got ${String(error)}`);
}

/** How often each chunk was asked for. */
export function timesFetched(server: FakeServer): Map<number, number> {
  const times = new Map<number, number>();
  for (const { range } of server.requests) {
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '') ?? [];
    for (let index = Number(first) / CHUNK; index * CHUNK <= Math.min(Number(last), SIZE - 1); index++) {
      times.set(index, (times.get(index) ?? 0) + 1);
    }
  }
  return times;
}
