/** Damaged images with newer features, and old ones: what our repair makes of them is what QEMU's does. */
import { describe, it } from 'vitest';
import { FEATURE_DAMAGES } from './damages.js';
import { expectSameCheckAndRepair } from './repair.js';

describe('an image with newer features and damage is checked and repaired as by QEMU', () => {
  for (const damage of FEATURE_DAMAGES) it(damage.what, () => expectSameCheckAndRepair(damage));
});
