import { createReferenceSectorCipher } from '../../src/kernels/cipher-reference.js';
import { testSectorCipherConformance } from './cipher-conformance.js';

testSectorCipherConformance('reference sector cipher', createReferenceSectorCipher, 4);
