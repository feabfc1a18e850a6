/** Options that can't be sent to a worker: an error names the field and its type, and has no word of what is in it. */
import { afterEach, describe, expect, it } from 'vitest';
import { isQcow2Error } from '../../src/index.js';
import type { Request } from '../../src/worker/protocol.js';
import { closeConnections, connect, openRequest } from './connect.js';
import { MemoryFolder } from './memory-files.js';

afterEach(closeConnections);

const wrong = (value: unknown): never => value as never;

describe('a request that can not be sent', () => {
  const secret = wrong(() => 'open sesame');
  const encryption = { format: 'luks', passphrase: secret } as const;

  it.each<[string, Request]>([
    ['passphrase is a Function', openRequest({ passphrase: secret })],
    ['passphrase is an AsyncFunction', openRequest({ passphrase: wrong(async () => 'open sesame') })],
    ['passphrase is a Symbol', openRequest({ passphrase: wrong(Symbol('open sesame')) })],
    ['backingPassphrases.base is a Function', openRequest({ backingPassphrases: { base: secret } })],
    ['newPassphrase is a Function', { kind: 'addPassphrase', passphrase: 'old', newPassphrase: secret }],
    ['passphrase is a Function', { kind: 'erasePassphrase', passphrase: secret }],
    [
      'content.encryption.passphrase is a Function',
      { kind: 'export', content: { of: 'disk', snapshots: true, encryption } },
    ],
  ])('says that %s, and nothing of its source', async (problem, request) => {
    const { client } = connect(new MemoryFolder().openDirectory);
    const error = await client.call(request).then(
      () => null,
      (reason: unknown) => reason,
    );
    if (!isQcow2Error(error)) throw new Error('no error of ours', { cause: error });
    expect(error.code).toBe('BAD_ARGUMENT');
    expect(error.message).toBe(`the ${request.kind} request can't be sent to the worker: ${problem}`);
    expect([error.stack, String(error.cause)].join()).not.toContain("'open sesame'");
    expect(error.cause).toBeUndefined();
  });

  it('has the words of the browser where it is something else, which has none of its own', async () => {
    const { client } = connect(new MemoryFolder().openDirectory);
    const opening = client.call(openRequest({ passphrase: wrong(new WeakSet()) }));
    await expect(opening).rejects.toMatchObject({
      code: 'BAD_ARGUMENT',
      message: expect.stringMatching(/^the open request can't be sent to the worker: .*WeakSet/) as string,
    });
  });
});
