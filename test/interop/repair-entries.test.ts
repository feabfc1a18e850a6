/** Damaged entries of L1 and L2 tables: what our repair makes of them is what QEMU's does. */
import { describe, it } from 'vitest';
import { TABLE_DAMAGES } from './damages.js';
import { expectSameCheckAndRepair } from './repair.js';

describe('an image with damaged L1 and L2 entries is checked and repaired as by QEMU', () => {
  for (const damage of TABLE_DAMAGES) it(damage.what, () => expectSameCheckAndRepair(damage));
});
