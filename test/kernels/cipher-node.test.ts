import { describe } from 'vitest';
import { createNodeSectorCipher } from '../../src/crypto/node-sector-cipher.js';
import { testSectorCipherConformance } from './cipher-conformance.js';
import { testCounters } from './cipher-counters.js';

testSectorCipherConformance('sector cipher by node:crypto', createNodeSectorCipher, 25);
describe('the counters of a cipher by node:crypto', () => {
  testCounters(createNodeSectorCipher);
});
