/**
 * `abort`, `sigraise` and `sleep`: what happens to the process. A crash leaves the image as it is: nothing is flushed.
 */
import { NSIG } from './signals.js';
import type { IoCommand } from './command.js';
import { readInteger, readSize } from './numbers.js';

export const abortCommand: IoCommand = {
  name: 'abort',
  withoutFile: true,
  summary: 'ends as a crash would',
  run() {
    // As in C, what stdout holds back is lost.
    process.kill(process.pid, 'SIGABRT');
    return endless();
  },
};

export const sigraiseCommand: IoCommand = {
  name: 'sigraise',
  atLeast: 1,
  atMost: 1,
  withoutFile: true,
  usage: 'signal',
  summary: 'sends a signal to this program',
  help: `
 Sends this program the signal with a number.

 Example:
 'sigraise 15' - sends SIGTERM

`,
  async run(session, args) {
    const signal = readSize(session, args[0]!);
    if (signal === null) return 'failed';
    if (signal >= BigInt(NSIG)) {
      session.console.out(`signal argument '${args[0]}' is too large to be a valid signal\n`);
      return 'failed';
    }
    session.console.flush();
    process.kill(process.pid, Number(signal));
    // A signal that ends the process is on its way; one that does not, or 0, lets it go on.
    await pause(20);
    return 'ok';
  },
};

export const sleepCommand: IoCommand = {
  name: 'sleep',
  atLeast: 1,
  atMost: 1,
  withoutFile: true,
  summary: 'waits, in milliseconds',
  async run(session, args) {
    const milliseconds = readInteger(args[0]!);
    if (milliseconds === null || milliseconds < 0) {
      session.console.out(`${args[0]} is not a valid number\n`);
      return 'failed';
    }
    session.settle();
    await pause(milliseconds);
    return 'ok';
  },
};

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

function endless(): Promise<never> {
  return new Promise(() => setInterval(() => {}, 1000));
}
