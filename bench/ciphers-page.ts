/** What the bench of the sector ciphers does where there is no Node: in a page, and in Node for comparison. */
import { createSectorCipher } from '../src/kernels/cipher-wasm.js';
import { median, type Candidate, type Timing } from './compare.js';
import { nobleBlocksXts, nobleEcbXts, type PeerCipher } from './noble-xts.js';

/** A cluster of the default size. */
export const CLUSTER_BYTES = 0x10000;
const FIRST_SECTOR = 1000;

/** A kernel runs slowly until the engine has compiled it again in the background, which on a busy machine takes its time. */
const WARM_UP_MILLISECONDS = 500;
/** Short, so that most turns pass without another process taking the processor. */
const TURN_MILLISECONDS = 1.5;
const ROUNDS = 201;

export type Direction = 'encrypt' | 'decrypt';

export const XTS_KEY = Uint8Array.from({ length: 64 }, (_, index) => index * 7 + 3);

export interface NamedCipher {
  readonly name: string;
  readonly cipher: PeerCipher;
}

/** AES-256-XTS without a host's cipher: ours first. */
export function portableCiphers(): NamedCipher[] {
  return [
    {
      name: 'WASM kernel',
      cipher: createSectorCipher({ cipher: 'aes-256', mode: 'xts', iv: 'plain64', key: XTS_KEY }),
    },
    { name: '@noble/ciphers, block by block', cipher: nobleBlocksXts(XTS_KEY) },
    { name: '@noble/ciphers, one ECB call', cipher: nobleEcbXts(XTS_KEY) },
  ];
}

/** Times the ciphers on a cluster that lies outside of their memory. Throws when one does not give what the first one gives. */
export function timeCiphers(ciphers: readonly NamedCipher[], direction: Direction): Timing[] {
  const candidates = ciphers.map(({ name, cipher }) => {
    const data = new Uint8Array(CLUSTER_BYTES);
    return { name, run: () => cipher[direction](data, FIRST_SECTOR) };
  });
  requireSameResults(ciphers, direction);
  return compareInTurns(candidates);
}

/** As `compare` of `compare.ts`, with more patience before and shorter turns. */
export function compareInTurns(candidates: readonly Candidate[]): Timing[] {
  const turns = candidates.map(({ run }) => ({ run, calls: callsPerTurn(run), times: new Array<number>() }));
  for (let round = 0; round < ROUNDS; round++) {
    // Each round begins with another one, or what the processor does besides could fall on the same one's turn each time.
    const start = round % turns.length;
    for (const { run, calls, times } of [...turns.slice(start), ...turns.slice(0, start)]) {
      const began = performance.now();
      for (let call = 0; call < calls; call++) run();
      times.push(((performance.now() - began) * 1000) / calls);
    }
  }
  const base = turns[0]!.times;
  return turns.map(({ times }, index) => {
    const ratio = median(times.map((time, round) => base[round]! / time));
    return { name: candidates[index]!.name, microseconds: median(times), ratio };
  });
}

/** Warms up, and returns how many calls take about a turn. */
function callsPerTurn(run: () => void): number {
  const start = performance.now();
  let [calls, elapsed] = [0, 0];
  let best = Number.POSITIVE_INFINITY;
  while (elapsed < WARM_UP_MILLISECONDS) {
    const before = elapsed;
    for (calls = 0; elapsed - before < TURN_MILLISECONDS; calls++) {
      run();
      elapsed = performance.now() - start;
    }
    best = Math.min(best, (elapsed - before) / calls);
  }
  return Math.max(1, Math.round(TURN_MILLISECONDS / best));
}

function requireSameResults(ciphers: readonly NamedCipher[], direction: Direction): void {
  const results = ciphers.map(({ cipher }) => {
    const data = Uint8Array.from({ length: CLUSTER_BYTES }, (_, index) => index * 31);
    cipher[direction](data, FIRST_SECTOR);
    return data;
  });
  ciphers.forEach(({ name }, index) => {
    const same = results[index]?.every((byte, at) => byte === results[0]?.[at]);
    if (same !== true) throw new Error(`${name} does not ${direction} as ${ciphers[0]?.name} does`);
  });
}

export function benchPage(): Record<Direction, Timing[]> {
  const ciphers = portableCiphers();
  return { encrypt: timeCiphers(ciphers, 'encrypt'), decrypt: timeCiphers(ciphers, 'decrypt') };
}
