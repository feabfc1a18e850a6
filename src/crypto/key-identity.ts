/**
 * Key identity: what a LUKS header says of the key behind it, as far as it can be said without the key. Two headers with the
 * same identity have the same key, used in the same way: the digest is one of the key, made with a salt that is random for
 * each new image. Passphrases may come and go meanwhile, so the slots are no part of it, and neither is the uuid, which a tool
 * may change in a header that it keeps.
 *
 * So an opened key is not used on the data of another image, which would read as rubbish and be written as rubbish.
 */
import type { LuksHeader } from '../format/luks-header.js';
import { equalAt } from '../util/bytes.js';

export type KeyIdentity = Pick<
  LuksHeader,
  'cipherName' | 'cipherMode' | 'hash' | 'keyBytes' | 'keyDigest' | 'keyDigestSalt' | 'keyDigestIterations'
>;

export function keyIdentityOf(header: LuksHeader): KeyIdentity {
  const { cipherName, cipherMode, hash, keyBytes, keyDigest, keyDigestSalt, keyDigestIterations } = header;
  return { cipherName, cipherMode, hash, keyBytes, keyDigest, keyDigestSalt, keyDigestIterations };
}

export function sameKeyIdentity(a: KeyIdentity, b: KeyIdentity): boolean {
  return (
    a.cipherName === b.cipherName &&
    a.cipherMode === b.cipherMode &&
    a.hash === b.hash &&
    a.keyBytes === b.keyBytes &&
    a.keyDigestIterations === b.keyDigestIterations &&
    equalAt(a.keyDigest, 0, b.keyDigest) &&
    equalAt(a.keyDigestSalt, 0, b.keyDigestSalt)
  );
}
