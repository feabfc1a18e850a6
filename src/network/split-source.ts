/**
 * A base image as a folder of parts, with a manifest that has the digest of each (`split-manifest.ts`). A part is a chunk.
 *
 * The manifest is fetched when the first part is needed that is not here: a disk whose base is all here opens without a network.
 */
import { baseChanged } from './base-identity.js';
import type { ChunkGeometry, ChunkRun } from './chunk-geometry.js';
import { readChunks, type ChunkSource, type SourceHost, type TakeChunk } from './chunk-source.js';
import { lasting, passing } from './fetch-failure.js';
import { sendRequest, type HttpAnswer } from './http.js';
import { statusFailure } from './range-answer.js';
import {
  LONGEST_MANIFEST_BYTES,
  digestText,
  manifestIdentity,
  parseManifest,
  partName,
  type SplitManifest,
} from './split-manifest.js';

export interface SplitSourceOptions {
  /** Of the manifest. */
  readonly url: string;
  readonly geometry: ChunkGeometry;
  readonly identity: string;
  /** If it is here already. */
  readonly manifest?: SplitManifest;
}

export class SplitSource implements ChunkSource {
  readonly geometry: ChunkGeometry;
  readonly identity: string;
  readonly longestRun = 1;
  readonly #url: string;
  readonly #host: SourceHost;
  #manifest: SplitManifest | null;

  constructor(host: SourceHost, { url, geometry, identity, manifest }: SplitSourceOptions) {
    this.#host = host;
    this.#url = url;
    this.geometry = geometry;
    this.identity = identity;
    this.#manifest = manifest ?? null;
  }

  async fetchRun(run: ChunkRun, take: TakeChunk, signal: AbortSignal): Promise<void> {
    this.#manifest ??= await this.#fetchManifest(signal);
    for (let index = run.first; index < run.first + run.count; index++) {
      await this.#fetchPart(index, this.#manifest.parts[index]!, take, signal);
    }
  }

  async #fetchManifest(signal: AbortSignal): Promise<SplitManifest> {
    const manifest = await fetchManifest(this.#host, this.#url, signal);
    const found = manifestIdentity(manifest);
    if (found !== this.identity) throw baseChanged(this.#url, this.identity, found);
    return manifest;
  }

  async #fetchPart(index: number, digest: string, take: TakeChunk, signal: AbortSignal): Promise<void> {
    const url = new URL(partName(digest), this.#url).href;
    const answer = await requestFile(this.#host, url, signal);
    try {
      const body = { url, run: { first: index, count: 1 }, geometry: this.geometry };
      await readChunks(answer, body, this.#host, (_, bytes) => {
        const found = digestText(bytes);
        if (found !== digest) throw passing(`${url}: the part has the SHA-256 ${found}, the manifest says ${digest}`);
        take(index, bytes);
      });
    } finally {
      answer.end();
    }
  }
}

/** One attempt. @throws FetchFailure; Qcow2Error `BAD_IMAGE` for what is no manifest, `ABORTED`. */
export async function fetchManifest(host: SourceHost, url: string, signal: AbortSignal): Promise<SplitManifest> {
  const answer = await requestFile(host, url, signal);
  try {
    const decoder = new TextDecoder();
    let text = '';
    for (let piece = await answer.next(); piece !== null; piece = await answer.next()) {
      host.onBytes(piece.length);
      text += decoder.decode(piece, { stream: true });
      if (text.length > LONGEST_MANIFEST_BYTES) {
        throw lasting('LIMIT', `${url}: a manifest has at most ${LONGEST_MANIFEST_BYTES} bytes`);
      }
    }
    return parseManifest(text + decoder.decode(), url);
  } finally {
    answer.end();
  }
}

async function requestFile(host: SourceHost, url: string, signal: AbortSignal): Promise<HttpAnswer> {
  host.onRequest();
  const { stallMilliseconds } = host.patience;
  const answer = await sendRequest(host.fetch, { url, signal, stallMilliseconds });
  if (answer.status === 200) return answer;
  answer.end();
  throw statusFailure(url, answer.status);
}
