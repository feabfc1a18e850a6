/**
 * A boot profile: which parts of a base image a boot touches, in order. A site records it once and ships it beside the image; a visitor's
 * first boot then fetches in that order, ahead of the guest, instead of waiting for each part.
 *
 *   {
 *     "format": "qcow2-wasm boot profile", "version": 1,
 *     "size": 10878976,                              bytes of the base image
 *     "touched": [[0, 65536], [524288, 131072], ...] offset and length, in units of 64 KiB, whatever the size of chunks
 *   }
 *
 * It is a hint: one of an image of another size is passed over.
 */
import { Qcow2Error } from '../errors.js';
import { SMALLEST_CHUNK_BYTES, type ChunkGeometry } from './chunk-geometry.js';

const FORMAT = 'qcow2-wasm boot profile';
const VERSION = 1;
const UNIT_BYTES = SMALLEST_CHUNK_BYTES;
const MOST_RUNS = 2 ** 20;

export interface BootProfile {
  readonly format: typeof FORMAT;
  readonly version: typeof VERSION;
  /** Bytes of the base image. */
  readonly size: number;
  /** Offset and length of each part, in bytes. */
  readonly touched: readonly (readonly [number, number])[];
}

/** Notes what is read, in the order in which it is first read. */
export class ProfileRecorder {
  readonly #seen: Uint8Array;
  /** In units. */
  readonly #runs: [number, number][] = [];
  readonly #size: number;

  constructor({ size }: ChunkGeometry) {
    this.#size = size;
    this.#seen = new Uint8Array(Math.ceil(size / UNIT_BYTES));
  }

  note(offset: number, length: number): void {
    const end = Math.min(offset + length, this.#size);
    for (let unit = Math.floor(offset / UNIT_BYTES); unit * UNIT_BYTES < end; unit++) {
      if (this.#seen[unit] === 1) continue;
      this.#seen[unit] = 1;
      const last = this.#runs.at(-1);
      if (last !== undefined && last[0] + last[1] === unit) last[1]++;
      else this.#runs.push([unit, 1]);
    }
  }

  profile(): BootProfile {
    const touched = this.#runs.map(([first, count]): [number, number] => {
      const offset = first * UNIT_BYTES;
      return [offset, Math.min(count * UNIT_BYTES, this.#size - offset)];
    });
    return { format: FORMAT, version: VERSION, size: this.#size, touched };
  }
}

/** The chunks of a profile in its order, each once; none of a profile of another image. */
export function chunksOfProfile(profile: BootProfile, geometry: ChunkGeometry): number[] {
  if (profile.size !== geometry.size) return [];
  const indices = new Set<number>();
  for (const [offset, length] of profile.touched) {
    const { first, count } = geometry.chunksOf(offset, length);
    for (let index = first; index < first + count; index++) indices.add(index);
  }
  return [...indices];
}

/** @param what names it in messages. @throws Qcow2Error `BAD_ARGUMENT` for what is no boot profile. */
export function checkProfile(value: unknown, what: string): BootProfile {
  const bad = (problem: string): Qcow2Error => new Qcow2Error('BAD_ARGUMENT', `${what} is no boot profile: ${problem}`);
  if (typeof value !== 'object' || value === null) throw bad('it is no object');
  const { format, version, size, touched } = value as Record<string, unknown>;
  if (format !== FORMAT || version !== VERSION) throw bad(`"format" and "version" must be "${FORMAT}" and ${VERSION}`);
  if (typeof size !== 'number' || !Array.isArray(touched)) throw bad('"size" must be a number and "touched" a list');
  if (touched.length > MOST_RUNS) throw bad(`"touched" has ${touched.length} entries; ${MOST_RUNS} is the most`);
  const wrong = touched.findIndex((run: unknown) => !isRange(run, size));
  if (wrong !== -1) throw bad(`"touched"[${wrong}] is no [offset, length] within ${size} bytes`);
  return { format: FORMAT, version: VERSION, size, touched: touched as [number, number][] };
}

function isRange(run: unknown, size: number): boolean {
  if (!Array.isArray(run) || run.length !== 2) return false;
  const [offset, length] = run as unknown[];
  if (typeof offset !== 'number' || typeof length !== 'number') return false;
  return (
    Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length > 0 && offset + length <= size
  );
}
