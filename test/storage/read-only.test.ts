import { expect, it } from 'vitest';
import { MemoryStorage, ReadOnlyStorage } from '../../src/index.js';
import { READ_ONLY_CONTENT } from './conformance.js';
import { describeReadOnlyStorage } from './describe-conformance.js';
import { RemoteStorage } from './remote.js';

describeReadOnlyStorage('a memory storage behind the decorator', () => {
  return new ReadOnlyStorage(new MemoryStorage(READ_ONLY_CONTENT.slice()));
});

// The fake that other tests lean on has to keep the contract, too.
describeReadOnlyStorage('the fake remote storage', () => new RemoteStorage(READ_ONLY_CONTENT, { chunkBytes: 5000 }));

it('a read-only storage asks for the size again when it is refreshed', () => {
  let asked = 0;
  const inner = Object.assign(new MemoryStorage(), { refresh: () => asked++ });
  new ReadOnlyStorage(inner).refresh();
  new ReadOnlyStorage(new MemoryStorage()).refresh();
  expect(asked).toBe(1);
});
