/** Damaged snapshots, headers and files: what our repair makes of them is what QEMU's does. */
import { describe, it } from 'vitest';
import { OTHER_DAMAGES } from './damages.js';
import { expectSameCheckAndRepair } from './repair.js';

describe('an image with other damage is checked and repaired as by QEMU', () => {
  for (const damage of OTHER_DAMAGES) it(damage.what, () => expectSameCheckAndRepair(damage));
});
