/**
 * A guest whose disk has bitmaps, and what they should say: every change is made to the image and to a model of the marks.
 *
 * Of an export that nobody has confirmed yet, the model keeps what was marked since apart: confirming forgets the rest.
 */
import {
  addBitmap,
  clearBitmap,
  confirmIncrement,
  createSnapshot,
  disableBitmap,
  enableBitmap,
  exportIncremental,
  gotoSnapshot,
  MemoryStorage,
  mergeBitmap,
  removeBitmap,
  resizeImage,
  runToEnd,
  storeBitmaps,
  type Qcow2Image,
} from '../../src/index.js';
import type { Range } from '../support/model-disk.js';
import { granulesOf, sorted } from '../support/raw-bitmaps.js';
import type { SeededRandom } from '../support/seeded-random.js';

export interface ExpectedBitmap {
  readonly name: string;
  readonly granularity: number;
  readonly flags: number;
  readonly marked: readonly number[];
}

interface Marks {
  readonly granularity: number;
  enabled: boolean;
  marked: Set<number>;
  /** Of an export that may be confirmed: its token, and what was marked since. */
  exported: { readonly token: string; readonly since: Set<number> } | null;
}

/** What becomes of the disk; the caller notes it. */
export interface DiskChanges {
  /** Something begins that may leave bitmaps in use. */
  begun(): void;
  /** The bitmaps are stored by `step`, and nothing is in use then. */
  stored<T>(step: () => T): T;
  /** All of the disk becomes `bytes` at once, by `step`. */
  replaced(bytes: Uint8Array, step: () => void): void;
}

const MOST_BITMAPS = 4;

export class BitmapGuest {
  readonly #image: Qcow2Image;
  readonly #size: number;
  readonly #granularities: readonly number[];
  readonly #bitmaps = new Map<string, Marks>();
  /** Of the disk as it is, which may be between two sizes. */
  #diskSize: number;
  /** The disk of the snapshot that there is. */
  #snapshot: Uint8Array | null = null;

  constructor(image: Qcow2Image, granularities: readonly number[]) {
    this.#image = image;
    this.#size = image.size;
    this.#diskSize = image.size;
    this.#granularities = granularities;
  }

  /** In the order of the directory. */
  expected(): ExpectedBitmap[] {
    return [...this.#bitmaps].map(([name, { granularity, enabled, marked }]) => ({
      ...{ name, granularity },
      flags: enabled ? 2 : 0,
      marked: sorted(marked),
    }));
  }

  /** The guest has changed `range`. */
  changed({ offset, length }: Range): void {
    for (const bitmap of this.#bitmaps.values()) if (bitmap.enabled) mark(bitmap, offset, length);
  }

  /** One operation on bitmaps, or one that concerns them. @param disk what the guest sees. */
  operate(disk: Uint8Array, changes: DiskChanges, random: SeededRandom): void {
    const names = [...this.#bitmaps.keys()];
    if (names.length === 0 || (names.length < MOST_BITMAPS && random.oneIn(4))) {
      return changes.stored(() => this.#add(`bitmap ${random.below(1_000_000)}`, random.pick(this.#granularities)));
    }
    const operations = [
      () => changes.stored(() => this.#changeOne(random.pick(names), random)),
      () => changes.stored(() => this.#letGo(random)),
      () => changes.stored(() => this.#merge(random.pick(names), random.pick(names))),
      () => changes.stored(() => this.#export(random.pick(names))),
      () => this.#resize(changes, random),
      () => this.#travel(disk, changes),
    ];
    random.pick(operations)();
  }

  #add(name: string, granularity: number): void {
    addBitmap(this.#image, { name, granularity });
    this.#bitmaps.set(name, { granularity, enabled: true, marked: new Set(), exported: null });
  }

  #changeOne(name: string, random: SeededRandom): void {
    const bitmap = this.#bitmaps.get(name)!;
    switch (random.below(4)) {
      case 0:
        removeBitmap(this.#image, name);
        this.#bitmaps.delete(name);
        break;
      case 1:
        clearBitmap(this.#image, name);
        bitmap.marked = new Set();
        bitmap.exported = null;
        break;
      case 2:
        (bitmap.enabled ? disableBitmap : enableBitmap)(this.#image, name);
        bitmap.enabled = !bitmap.enabled;
        break;
      default:
        storeBitmaps(this.#image);
    }
  }

  /** Who looks at the file now finds it whole. Exports that are not confirmed are forgotten: what they took belongs to the next. */
  #letGo(random: SeededRandom): void {
    if (random.oneIn(2)) {
      this.#image.reopen({ readOnly: true });
      this.#image.reopen({ readOnly: false });
    } else {
      this.#image.inactivate();
      this.#image.invalidate();
    }
    for (const bitmap of this.#bitmaps.values()) bitmap.exported = null;
  }

  #merge(name: string, source: string): void {
    if (name === source) return storeBitmaps(this.#image);
    mergeBitmap(this.#image, name, { name: source });
    // What an export took and what was marked since are one again.
    const [target, { granularity, marked }] = [this.#bitmaps.get(name)!, this.#bitmaps.get(source)!];
    for (const granule of marked) {
      const offset = granule * granularity;
      mark(target, offset, Math.min(granularity, this.#image.size - offset));
    }
    target.exported = null;
  }

  /** Confirms the export before, or makes one. */
  #export(name: string): void {
    const bitmap = this.#bitmaps.get(name)!;
    if (bitmap.exported === null) {
      const token = runToEnd(exportIncremental(this.#image, name, new MemoryStorage()));
      bitmap.exported = { token, since: new Set() };
      return storeBitmaps(this.#image);
    }
    confirmIncrement(this.#image, name, bitmap.exported.token);
    bitmap.marked = bitmap.exported.since;
    bitmap.exported = null;
  }

  /** The disk grows, and shrinks again; now and then the bitmaps are stored between two steps. The last one stores them itself. */
  #resize(changes: DiskChanges, random: SeededRandom): void {
    for (const size of [this.#size + random.between(1, 200) * 512, this.#size]) {
      const job = resizeImage(this.#image, { size, shrink: true });
      const some = (): boolean => {
        let goesOn = job.next().done !== true;
        while (goesOn && random.oneIn(2)) goesOn = job.next().done !== true;
        this.#fitTo(this.#image.size);
        storeBitmaps(this.#image);
        return goesOn;
      };
      for (let goesOn = true; goesOn;) {
        changes.begun();
        goesOn = changes.stored(some);
      }
    }
  }

  /** What is new is marked, as far as a bitmap is enabled; what has gone is not. */
  #fitTo(size: number): void {
    const old = this.#diskSize;
    this.#diskSize = size;
    for (const bitmap of this.#bitmaps.values()) {
      if (size > old && bitmap.enabled) mark(bitmap, old, size - old);
      const end = Math.ceil(size / bitmap.granularity);
      for (const marks of [bitmap.marked, bitmap.exported?.since]) {
        for (const granule of marks ?? []) if (granule >= end) marks!.delete(granule);
      }
    }
  }

  /** Takes the one snapshot, or goes back to it: then all of the disk has changed. */
  #travel(disk: Uint8Array, changes: DiskChanges): void {
    const snapshot = this.#snapshot;
    if (snapshot === null) {
      this.#snapshot = disk.slice();
      return changes.stored(() => {
        createSnapshot(this.#image, { name: 'then' });
        storeBitmaps(this.#image);
      });
    }
    changes.replaced(snapshot, () => gotoSnapshot(this.#image, 'then'));
    this.changed({ offset: 0, length: this.#size });
    changes.stored(() => storeBitmaps(this.#image));
  }
}

function mark({ granularity, marked, exported }: Marks, offset: number, length: number): void {
  for (const granule of granulesOf(offset, length, granularity)) {
    marked.add(granule);
    exported?.since.add(granule);
  }
}
