/**
 * A base image as a folder of parts, with a manifest that has the digest of each (`split-manifest.ts`). A part is a chunk.
 *
 * The manifest is fetched when the first part is needed that is not here: a disk whose base is all here opens without a network.
 */
import { baseChanged } from './base-identity.js';
import type { ChunkGeometry, ChunkRun } from './chunk-geometry.js';
import { ask, readChunks, type ChunkSource, type SourceHost, type TakeChunk } from './chunk-source.js';
import { lasting, passing } from './fetch-failure.js';
import type { HttpAnswer } from './http.js';
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
  /** Each part has a digest of its own. */
  readonly wholeDigest = null;
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
    const answer = await requestFile(this.#host, { url, bytes: this.geometry.length(index), signal });
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
  const answer = await requestFile(host, { url, bytes: LONGEST_MANIFEST_BYTES, signal });
  try {
    const decoder = new TextDecoder();
    let text = '';
    for (let piece = await answer.next(); piece !== null; piece = await answer.next()) {
      host.traffic.noteBytes(piece.length);
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

interface WantedFile {
  readonly url: string;
  readonly bytes: number;
  readonly signal: AbortSignal;
}

async function requestFile(host: SourceHost, file: WantedFile): Promise<HttpAnswer> {
  const answer = await ask(host, file);
  if (answer.status === 200) return answer;
  answer.end();
  throw statusFailure(file.url, answer.status);
}
