/** Damaged refcounts: what our repair makes of them is what QEMU's does. */
import { describe, it } from 'vitest';
import { REFCOUNT_DAMAGES } from './damages.js';
import { expectSameCheckAndRepair } from './repair.js';

describe('an image with damaged refcounts is checked and repaired as by QEMU', () => {
  for (const damage of REFCOUNT_DAMAGES) it(damage.what, () => expectSameCheckAndRepair(damage));
});
