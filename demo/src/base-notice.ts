/**
 * What is said where a base image can't be had or used. Nothing is wrong with the visitor's disk then, and a fresh one would stand on the same
 * base, so none is offered. One exception: a base that the server has replaced is gone for good.
 */
import { isQcow2Error, type Qcow2Error } from 'qcow2-wasm/opfs';
import { allowedBases, baseOfAddress, type SiteBase } from './base-image.js';
import { messageOf, RELOAD, type Notice, type NoticeAction } from './notice-parts.js';

const UNTOUCHED = 'A disk that is stored here is untouched.';

const WITHOUT_BASE: NoticeAction = {
  label: 'Open without it',
  run: () => {
    const url = new URL(location.href);
    url.searchParams.delete('base');
    location.assign(url);
  },
};

const WRONG_ADDRESS: Notice = {
  title: 'The address of this page names an image of another site',
  advice: `Only images of this site are opened, so that no link can boot a guest from elsewhere. ${UNTOUCHED}`,
  actions: [WITHOUT_BASE],
};

/** Null for what has nothing to do with a base image. */
export function noticeOfBase(error: unknown, startOver: NoticeAction): Notice | null {
  if (!isQcow2Error(error)) return null;
  const words = isOfAddress(error) ? WRONG_ADDRESS : wordsFor(error);
  if (words === null) return null;
  const actions = error.code === 'BASE_CHANGED' ? [RELOAD, startOver] : (words.actions ?? [RELOAD]);
  return { ...words, what: messageOf(error), actions };
}

/** Said when the disk that is there goes on with its own base, though the address names another. Null where it does not. */
export function noticeOfOtherBase(backingFile: string | null): Notice | null {
  const wanted = baseOfAddress();
  const standsOn = backingFile?.replace(/#identity=.*/, '') ?? null;
  if (wanted === null || wanted.name === standsOn) return null;
  const own = standsOn === null ? 'without a base image, as it is whole' : `with ${standsOn}, which it was made over`;
  return {
    title: 'The address names another base image',
    advice: `The disk that is stored here goes on ${own}. ${wanted.name} is for a fresh disk.`,
    calm: true,
  };
}

/** The address of the page itself is wrong. */
function isOfAddress(error: Qcow2Error): boolean {
  return error.code === 'BAD_ARGUMENT' && error.message.endsWith('is no address of this site');
}

function wordsFor(error: Qcow2Error): Notice | null {
  const base = baseIn(error);
  const usual = base !== null && base.name === baseOfAddress()?.name ? [RELOAD, WITHOUT_BASE] : [RELOAD];
  switch (error.code) {
    case 'NETWORK':
      return {
        title: 'The base image could not be fetched',
        advice: 'Try again when the server can be reached. A disk that was made available offline starts without it.',
      };
    case 'BASE_CHANGED':
      return {
        title: 'The base image on the server is another one by now',
        advice:
          'The stored disk stands on the old one, which is not all here. Start with a fresh disk: this throws the stored one away.',
      };
    case 'BACKING':
      return {
        title: 'The disk stands on a base image that this page does not know',
        advice: `If it was made with “?base=” in the address, open the page with that again. ${UNTOUCHED}`,
      };
    case 'NOT_FOUND':
      return base && { title: 'The base image is not on the server', advice: adviceIfMissing(base), actions: usual };
    case 'UNSUPPORTED':
      return (
        base && {
          title: 'The server can’t send the base image in parts',
          advice: `Such a server needs a split image: cut it with qcow2-split, and name its “.split.json” with “?base=”. ${UNTOUCHED}`,
          actions: usual,
        }
      );
    default:
      if (base === null && !error.message.startsWith('in the backing file')) return null;
      return { title: 'The base image can’t be used', advice: UNTOUCHED, actions: usual };
  }
}

function adviceIfMissing({ url }: SiteBase): string {
  return `The site has to have it at ${url.pathname}, or the address of this page has to name another one with “?base=”. ${UNTOUCHED}`;
}

/** The base that a failure names: one of a server names the address that was asked. */
function baseIn({ message }: Qcow2Error): SiteBase | null {
  return allowedBases().find(({ url }) => message.includes(url.href)) ?? null;
}
