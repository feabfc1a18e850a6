import { createNodeSectorCipher } from '../../src/crypto/node-sector-cipher.js';
import { testSectorCipherConformance } from './cipher-conformance.js';

testSectorCipherConformance('sector cipher by node:crypto', createNodeSectorCipher, 25);
