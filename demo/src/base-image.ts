/**
 * The base image under a visitor's disk, on the page's own server. It is fetched in chunks as the guest reads it, and kept.
 *
 * `?base=` names another one for a fresh disk, `...split.json` the manifest of a split image; `?profile=` a boot profile. Both are of this site
 * alone: a link must not boot somebody's machine from somewhere else. A disk that is there goes on with the base that it names, whatever
 * the address says.
 */
import { Qcow2Error, type NetworkBase } from 'qcow2-wasm/opfs';

/** A base as the page knows it. */
export interface SiteBase extends NetworkBase {
  /** By which disks name it: wherever the site is, it is the same. */
  readonly name: string;
  readonly url: URL;
}

const USUAL_NAME = 'linux.qcow2';
const USUAL_URL = 'guest/linux.qcow2';
/** Recorded by `npm start` (demo/guest/boot-profile.mjs). A site without one does as well, and its visitors wait longer. */
const USUAL_PROFILE = 'guest/linux.qcow2.profile.json';

/** What a fresh disk stands on. @throws Qcow2Error `BAD_ARGUMENT` for an address of another site. */
export function baseImage(): SiteBase {
  return baseOfAddress() ?? usualBase();
}

/** What a disk may stand on, on this visit. @throws Qcow2Error `BAD_ARGUMENT` for an address of another site. */
export function allowedBases(): SiteBase[] {
  const wanted = baseOfAddress();
  return wanted === null ? [usualBase()] : [usualBase(), wanted];
}

/** The base that `?base=` names; null where it names none, or the usual one. */
export function baseOfAddress(): SiteBase | null {
  const address = new URLSearchParams(location.search).get('base');
  if (address === null) return null;
  const url = ofThisSite(address);
  if (url.href === ofThisSite(USUAL_URL).href) return null;
  const split = url.pathname.endsWith('.split.json');
  return { name: nameOf(url), url, split, ...profileOfAddress() };
}

function usualBase(): SiteBase {
  return { name: USUAL_NAME, url: ofThisSite(USUAL_URL), profile: ofThisSite(USUAL_PROFILE), ...profileOfAddress() };
}

function profileOfAddress(): { profile?: URL } {
  const address = new URLSearchParams(location.search).get('profile');
  return address === null ? {} : { profile: ofThisSite(address) };
}

/** Its way from the page, so that a site can move; that from the top of the server, where it is not below the page. */
function nameOf({ pathname, search }: URL): string {
  const folder = new URL('.', document.baseURI).pathname;
  return (pathname.startsWith(folder) ? pathname.slice(folder.length) : pathname) + search;
}

function ofThisSite(address: string): URL {
  const url = URL.canParse(address, document.baseURI) ? new URL(address, document.baseURI) : null;
  if (url?.origin === location.origin) return url;
  throw new Qcow2Error('BAD_ARGUMENT', `${JSON.stringify(address)} is no address of this site`);
}
