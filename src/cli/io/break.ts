/**
 * `break`, `remove_break`, `resume` and `wait_break`: a request beside the commands waits before it begins (`graph/breakpoints.ts`), and
 * those that are given after it wait behind it, until it is resumed.
 */
import { errorWords } from '../text/errno.js';
import { openedNode, type IoCommand } from './command.js';
import type { Session } from './session.js';

const MISSING = 'No such file or directory';

const breakCommand: IoCommand = {
  name: 'break',
  atLeast: 2,
  atMost: 2,
  usage: 'event tag',
  summary: 'stops the next request at an event, under a name',
  run(session, [event, tag]) {
    const { breakpoints } = openedNode(session);
    try {
      if (breakpoints === null) return failed(session, 'Could not set breakpoint: Operation not supported');
      breakpoints.set(event!, tag!);
      return 'ok';
    } catch (error) {
      return failed(session, `Could not set breakpoint: ${errorWords(error).words}`);
    }
  },
};

const removeBreakCommand: IoCommand = {
  name: 'remove_break',
  atLeast: 1,
  atMost: 1,
  usage: 'tag',
  summary: 'takes a breakpoint away',
  run(session, [tag]) {
    const removed = openedNode(session).breakpoints?.remove(tag!) ?? false;
    const resumed = session.resume(tag!);
    return removed || resumed ? 'ok' : failed(session, `Could not remove breakpoint ${tag}: ${MISSING}`);
  },
};

const resumeCommand: IoCommand = {
  name: 'resume',
  atLeast: 1,
  atMost: 1,
  usage: 'tag',
  summary: 'lets a stopped request go on',
  run(session, [tag]) {
    return session.resume(tag!) ? 'ok' : failed(session, `Could not resume request: ${MISSING}`);
  },
};

const waitBreakCommand: IoCommand = {
  name: 'wait_break',
  atLeast: 1,
  atMost: 1,
  usage: 'tag',
  summary: 'waits until a request has stopped',
  run(session, [tag]) {
    // A request waits as soon as it is given: there is nothing that could still come.
    return session.isSuspended(tag!) ? 'ok' : failed(session, `No request is suspended as ${tag}`);
  },
};

function failed(session: Session, message: string): 'failed' {
  session.console.out(`${message}\n`);
  return 'failed';
}

export const breakCommands: readonly IoCommand[] = [breakCommand, removeBreakCommand, resumeCommand, waitBreakCommand];
