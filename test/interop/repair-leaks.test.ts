/** Leaks repaired alone: what our repair leaves is what QEMU's leaves. */
import { describe, it } from 'vitest';
import { OTHER_DAMAGES, REFCOUNT_DAMAGES } from './damages.js';
import { expectSameRepairOfLeaks } from './repair.js';

describe('repairing leaks alone comes to the same as with QEMU', () => {
  const rows = [...REFCOUNT_DAMAGES, ...OTHER_DAMAGES].filter((damage) => damage.otherwise === undefined);
  for (const damage of rows) it(damage.what, () => expectSameRepairOfLeaks(damage));
});
