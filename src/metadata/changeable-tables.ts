/** The tables of an image that may be changed, as the jobs on whole images get them. */
import { Qcow2Error } from '../errors.js';
import type { ImageTables, WritableTables } from './image-tables.js';

export type ChangeableTables = ImageTables & { readonly writable: WritableTables };

/**
 * What a job works on. It asks for the tables anew at each of its steps: between two of them the image may have been
 * reopened, its caches been cleaned, or another job have rewritten its header.
 */
export interface ChangeTarget {
  /** Throws `READ_ONLY`, `POISONED`, `CLOSED`, `INACTIVE` or `CORRUPT` for an image that can't be changed now. */
  changeableTables(): ChangeableTables;
}

/** `tables`, if they are those of an image that is open for writing. Throws `READ_ONLY` otherwise. */
export function asChangeable(tables: ImageTables): ChangeableTables {
  if (tables.writable === null) throw new Qcow2Error('READ_ONLY', 'the image was opened read-only');
  return tables as ChangeableTables;
}
