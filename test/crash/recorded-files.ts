/**
 * The files of one image, recorded in one common order: the image file, and an external data file where there is one.
 *
 *   image  w w F . w . w . F . | w
 *   data   . . . w . w . w . F | .        a barrier of one file is no barrier of the other
 *
 * After a crash each file holds what was stable by its own last barrier, and any part of its own later writes.
 */
import { MemoryStorage } from '../../src/index.js';
import type { Storage } from '../../src/storage/storage.js';
import type { SeededRandom } from '../support/seeded-random.js';
import { apply, KEEPING, surviving } from './crash-states.js';
import { RecordingStorage, type StorageEvent } from './recording-storage.js';

export type FileBytes = Uint8Array<ArrayBuffer>;

export class RecordedFiles {
  /** To be worked on; in the order of the contents they started with. */
  readonly storages: readonly Storage[];
  /** Of each event in the common order: which file, and how many events this file has had with it. */
  readonly #order: { readonly file: number; readonly count: number }[] = [];
  readonly #recordings: readonly RecordingStorage[];

  /** @param starts what the files hold, stable, before the first event; copied. */
  constructor(starts: readonly Uint8Array[]) {
    this.#recordings = starts.map((start) => new RecordingStorage(start));
    this.storages = this.#recordings.map((recording, file) => {
      return new CountedStorage(recording, () => this.#order.push({ file, count: recording.events.length }));
    });
  }

  /** Events of all files so far. */
  get length(): number {
    return this.#order.length;
  }

  get fileCount(): number {
    return this.#recordings.length;
  }

  startOf(file: number): Uint8Array {
    return this.#recordings[file]!.start;
  }

  /** The events of `file` among the first `at` of all. */
  eventsBefore(at: number, file: number): readonly StorageEvent[] {
    const last = this.#order.slice(0, at).findLast((event) => event.file === file);
    return this.#recordings[file]!.events.slice(0, last?.count ?? 0);
  }
}

/** Tells, after each event of the storage below, that there was one. */
class CountedStorage implements Storage {
  readonly readOnly = false;
  readonly #inner: RecordingStorage;
  readonly #count: () => void;

  constructor(inner: RecordingStorage, count: () => void) {
    this.#inner = inner;
    this.#count = count;
  }

  get size(): number {
    return this.#inner.size;
  }

  read(offset: number, target: Uint8Array): void {
    this.#inner.read(offset, target);
  }

  write(offset: number, source: Uint8Array): void {
    this.#inner.write(offset, source);
    this.#count();
  }

  truncate(size: number): void {
    this.#inner.truncate(size);
    this.#count();
  }

  punchHole(offset: number, length: number): void {
    const before = this.#inner.events.length;
    this.#inner.punchHole(offset, length);
    if (this.#inner.events.length > before) this.#count();
  }

  flush(): void {
    this.#inner.flush();
    this.#count();
  }

  close(): void {}
}

export interface FilesState {
  /** The number of events before the crash. */
  readonly at: number;
  /** For a person: how much of the unstable writes of each file is there. */
  readonly keeping: string;
  /** What the media hold; owned by the receiver. */
  readonly files: readonly FileBytes[];
}

/** `count` random crash states of a recorded run, in the order of their crash points. */
export function* crashStatesOfFiles(
  recorded: RecordedFiles,
  count: number,
  random: SeededRandom,
): Generator<FilesState> {
  const points = Array.from({ length: count }, () => random.between(0, recorded.length)).sort((a, b) => a - b);
  const media = Array.from({ length: recorded.fileCount }, (_, file) => new Medium(recorded, file));
  for (const at of points) {
    const kept = media.map((medium) => ({ keeping: random.pick(KEEPING), medium }));
    const files = kept.map(({ medium, keeping }) => medium.after(at, (events) => surviving(events, keeping, random)));
    yield { at, keeping: kept.map(({ keeping }) => keeping).join(' | '), files };
  }
}

/** What one file holds, as far as it is stable; moved on from crash point to crash point. */
class Medium {
  readonly #recorded: RecordedFiles;
  readonly #file: number;
  readonly #stable: MemoryStorage;
  #applied = 0;

  constructor(recorded: RecordedFiles, file: number) {
    this.#recorded = recorded;
    this.#file = file;
    this.#stable = new MemoryStorage(recorded.startOf(file).slice());
  }

  /** The content after a crash at `at`, no earlier than the one before, of which `choose` says what is kept. */
  after(at: number, choose: (unstable: readonly StorageEvent[]) => readonly StorageEvent[]): FileBytes {
    const events = this.#recorded.eventsBefore(at, this.#file);
    const barrier = events.findLastIndex(({ kind }) => kind === 'flush') + 1;
    for (; this.#applied < barrier; this.#applied++) apply(this.#stable, events[this.#applied]);
    const content = new MemoryStorage(this.#stable.toBytes());
    for (const event of choose(events.slice(barrier))) apply(content, event);
    return content.toBytes();
  }
}
