import { createCipheriv } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Secrets } from '../../../src/cli/graph/secrets.js';
import { newFolder } from './images.js';

const defined = (...objects: readonly Readonly<Record<string, string>>[]) => {
  const secrets = new Secrets();
  for (const object of objects) secrets.define(new Map(Object.entries({ 'qom-type': 'secret', ...object })));
  return secrets;
};
const text = (secrets: Secrets, id: string) => Buffer.from(secrets.lookup(id)).toString();

describe('a secret', () => {
  it('is given as text, in base64, or in a file', () => {
    const path = join(newFolder(), 'secret');
    writeFileSync(path, 'from a file');
    const secrets = defined(
      { id: 'a', data: 'plain' },
      { id: 'b', data: 'cGxhaW4=', format: 'base64' },
      { id: 'c', file: path },
    );
    expect([text(secrets, 'a'), text(secrets, 'b'), text(secrets, 'c')]).toEqual(['plain', 'plain', 'from a file']);
  });

  it('may be encrypted under another', () => {
    const [key, iv] = [Buffer.alloc(32, 1), Buffer.alloc(16, 2)];
    const cipher = createCipheriv('aes-256-cbc', key, iv);
    const data = Buffer.concat([cipher.update('hidden'), cipher.final()]).toString('base64');
    const master = { id: 'master', data: key.toString('base64'), format: 'base64' };
    const secrets = defined(master, { id: 'a', data, keyid: 'master', iv: iv.toString('base64') });
    expect(text(secrets, 'a')).toBe('hidden');
  });

  it.each([
    [{ data: 'x' }, "Parameter 'id' is missing"],
    [{ id: 'a' }, "Either 'file' or 'data' must be provided"],
    [{ id: 'a', data: 'x', file: 'y' }, "'file' and 'data' are mutually exclusive"],
    [{ id: 'a', data: 'x', format: 'morse' }, "Parameter 'format' does not accept value 'morse'"],
    [{ id: 'a', data: '/x', format: 'base64' }, "Base64 data '/x' is not valid"],
    [{ id: 'a', data: 'x', colour: 'red' }, "Parameter 'colour' is unexpected"],
    [{ id: '1', data: 'x' }, "Parameter 'id' expects an identifier"],
    [{ id: 'a', data: 'x', keyid: 'b' }, "No secret with id 'b'"],
    [{ id: 'a', data: 'x', 'qom-type': 'tls-creds' }, "Parameter 'qom-type' does not accept value 'tls-creds'"],
  ])('is refused: %j', (object, message) => {
    expect(() => defined(object as Readonly<Record<string, string>>)).toThrow(message);
  });

  it('has an id of its own', () => {
    expect(() => defined({ id: 'a', data: 'x' }, { id: 'a', data: 'y' })).toThrow("duplicate property 'a'");
  });
});
