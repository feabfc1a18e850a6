/** What is out of date, by modification times, as make does it. Paths are relative to the top of the repository. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The top of the repository. */
export const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** Whether an output is missing or older than the newest input. A folder stands for all that is in it, itself included. */
export function isStale(outputs, inputs) {
  const paths = outputs.map((output) => join(ROOT, output));
  if (!paths.every((path) => existsSync(path))) return true;
  const oldestOutput = Math.min(...paths.map((path) => statSync(path).mtimeMs));
  return inputs.some((input) => newest(join(ROOT, input)) > oldestOutput);
}

/** Milliseconds. A folder's own time counts, so that a removed file is noticed. */
function newest(path) {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return 0;
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(stat.mtimeMs, ...readdirSync(path).map((name) => newest(join(path, name))));
}
