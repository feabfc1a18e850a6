/** The bitmaps of the open disk in the worker. Nothing else may use the disk while a request is under way. */
import type { Qcow2Image } from '../image/qcow2-image.js';
import {
  addBitmap,
  bitmapUsage,
  clearBitmap,
  disableBitmap,
  enableBitmap,
  mergeBitmap,
  removeBitmap,
  storeBitmaps,
  type BitmapUsage,
} from '../operations/bitmaps/bitmaps.js';
import { confirmIncrement } from '../operations/bitmaps/export-incremental.js';
import { settle } from '../storage/not-resident.js';
import type { BitmapChange } from './protocol.js';

export class BitmapSession {
  readonly #image: Qcow2Image;

  constructor(image: Qcow2Image) {
    this.#image = image;
  }

  list(): Promise<BitmapUsage[]> {
    return settle(() => bitmapUsage(this.#image));
  }

  change(change: BitmapChange): Promise<void> {
    return settle(() => carryOut(this.#image, change));
  }
}

function carryOut(image: Qcow2Image, change: BitmapChange): void {
  switch (change.do) {
    case 'add':
      addBitmap(image, change.bitmap);
      return;
    case 'remove':
      return removeBitmap(image, change.name);
    case 'clear':
      return clearBitmap(image, change.name);
    case 'enable':
      return enableBitmap(image, change.name);
    case 'disable':
      return disableBitmap(image, change.name);
    case 'merge':
      return mergeBitmap(image, change.name, { name: change.source });
    case 'confirm':
      return confirmIncrement(image, change.name, change.token);
    case 'store':
      return storeBitmaps(image);
  }
}
