import { expect, test } from 'vitest';
import { Qcow2Error } from '../../../src/errors.js';
import { ErrnoError } from '../../../src/cli/text/errno.js';
import { CliError, reportThrown, UsageError, withPrefix, type Console } from '../../../src/cli/text/messages.js';

function reported(thrown: unknown): string {
  let told = '';
  const console: Console = { program: 'qemu-img', out: () => {}, err: (text) => (told += text), flush: () => {} };
  reportThrown(console, thrown);
  return told;
}

test('a message has the name of the program before it, and its hint behind it', () => {
  expect(reported(new CliError('no', { hint: 'Try again.\n' }))).toBe('qemu-img: no\nTry again.\n');
});

test('what is wrong with the command line points to the help', () => {
  expect(reported(new UsageError('no'))).toBe("qemu-img: no\nTry 'qemu-img --help' for more information\n");
});

test('errors of the host are said in the words of Linux, wherever they come from', () => {
  const host = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' });
  expect(reported(host)).toBe('qemu-img: No space left on device\n');
  expect(reported(new Qcow2Error('NO_SPACE', 'write failed', { cause: host }))).toBe(
    'qemu-img: No space left on device\n',
  );
  expect(reported(new ErrnoError('EPERM'))).toBe('qemu-img: Operation not permitted\n');
});

test('errors of the engine keep their message', () => {
  expect(reported(withPrefix('a: ', new Qcow2Error('BAD_IMAGE', 'it is broken')))).toBe('qemu-img: a: it is broken\n');
});

test('a mistake of ours is thrown on', () => {
  expect(() => reported(new TypeError('x is undefined'))).toThrow('x is undefined');
});
