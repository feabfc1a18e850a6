/**
 * Runs one command of the guest build to its end. Its output is shown only when it fails.
 */
import { spawnSync } from 'node:child_process';
import { GuestBuildError } from './build-error.mjs';

const LAST_LINES_SHOWN = 15;
const LARGEST_OUTPUT_BYTES = 64 * 1024 * 1024;

/**
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv, input?: string }} [options]
 * @returns {string} what it wrote to its standard output
 * @throws {GuestBuildError} when it can't be started or ends with another status than 0
 */
export function runCommand(command, args, options = {}) {
  const result = spawnSync(command, args, { ...options, encoding: 'utf8', maxBuffer: LARGEST_OUTPUT_BYTES });
  if (result.error) {
    throw new GuestBuildError(`${command} could not be run: ${result.error.message}`, { cause: result.error });
  }
  if (result.status !== 0) {
    const ending = result.signal ? `was ended by ${result.signal}` : `failed with status ${result.status}`;
    throw new GuestBuildError(`${command} ${args.join(' ')}\n${ending}:\n${lastLines(result.stdout + result.stderr)}`);
  }
  return result.stdout;
}

/** @param {string} text */
function lastLines(text) {
  return text.trimEnd().split('\n').slice(-LAST_LINES_SHOWN).join('\n');
}
