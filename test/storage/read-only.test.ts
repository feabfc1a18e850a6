import { MemoryStorage, ReadOnlyStorage } from '../../src/index.js';
import { READ_ONLY_CONTENT } from './conformance.js';
import { describeReadOnlyStorage } from './describe-conformance.js';
import { RemoteStorage } from './remote.js';

describeReadOnlyStorage('a memory storage behind the decorator', () => {
  return new ReadOnlyStorage(new MemoryStorage(READ_ONLY_CONTENT.slice()));
});

// The fake that other tests lean on has to keep the contract, too.
describeReadOnlyStorage('the fake remote storage', () => new RemoteStorage(READ_ONLY_CONTENT, { chunkBytes: 5000 }));
