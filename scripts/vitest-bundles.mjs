/** Vitest's global setup for tests that load dist/ in a browser. */
import { build } from './build.mjs';

export default async function setup() {
  await build({ types: false });
}
