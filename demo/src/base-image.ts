/**
 * The base image under a visitor's disk, on the page's own server. It is fetched in chunks as the guest reads it, and kept.
 *
 * `?base=` names another one, `...split.json` the manifest of a split image; `?profile=` a boot profile. Both are of this site alone: a link
 * must not boot somebody's machine from somewhere else.
 */
import { Qcow2Error, type NetworkBase } from 'qcow2-wasm/opfs';

/** By which the disk names it, wherever the site is. */
export const BASE_NAME = 'linux.qcow2';

const BASE_URL = 'guest/linux.qcow2';

export function baseImage(): NetworkBase {
  const wanted = new URLSearchParams(location.search);
  const url = ofThisSite(wanted.get('base') ?? BASE_URL);
  const profile = wanted.get('profile');
  return {
    name: BASE_NAME,
    url,
    split: url.pathname.endsWith('.split.json'),
    ...(profile === null ? {} : { profile: ofThisSite(profile) }),
  };
}

function ofThisSite(address: string): URL {
  const url = URL.canParse(address, document.baseURI) ? new URL(address, document.baseURI) : null;
  if (url?.origin === location.origin) return url;
  throw new Qcow2Error('BAD_ARGUMENT', `${JSON.stringify(address)} is no address of this site`);
}
