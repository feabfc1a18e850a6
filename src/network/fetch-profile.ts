/** A boot profile from a server: a small file beside the image. */
import { checkProfile, type BootProfile } from './boot-profile.js';
import { lasting } from './fetch-failure.js';
import { sendRequest, type Fetch } from './http.js';
import { statusFailure } from './range-answer.js';
import { DEFAULT_PATIENCE } from './retry.js';

const LONGEST_PROFILE_BYTES = 16 * 1024 * 1024;

/** One attempt. @throws Qcow2Error `NETWORK`, `NOT_FOUND`, `BAD_ARGUMENT` for what is no profile, `LIMIT`, `ABORTED`. */
export async function fetchProfile(fetch: Fetch, url: string, signal: AbortSignal): Promise<BootProfile> {
  const bounds = { bytes: LONGEST_PROFILE_BYTES, patience: DEFAULT_PATIENCE, isReadable: false };
  const answer = await sendRequest(fetch, { url, signal, ...bounds });
  try {
    if (answer.status !== 200) throw statusFailure(url, answer.status);
    const decoder = new TextDecoder();
    let text = '';
    for (let piece = await answer.next(); piece !== null; piece = await answer.next()) {
      text += decoder.decode(piece, { stream: true });
      if (text.length > LONGEST_PROFILE_BYTES)
        throw lasting('LIMIT', `${url}: a boot profile has at most ${LONGEST_PROFILE_BYTES} bytes`);
    }
    return checkProfile(parsed(text + decoder.decode()), url);
  } finally {
    answer.end();
  }
}

/** Null for what is no JSON, which is no profile either. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
