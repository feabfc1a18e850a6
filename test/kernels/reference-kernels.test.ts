import { referenceKernels } from '../../src/kernels/index.js';
import { testKernelsConformance } from './conformance.js';

testKernelsConformance('reference kernels', referenceKernels);
