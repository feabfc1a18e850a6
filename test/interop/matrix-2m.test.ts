/** The interop matrix at one cluster size; see `matrix.ts`. */
import { describeMatrix } from './matrix.js';

describeMatrix(0x20_0000);
