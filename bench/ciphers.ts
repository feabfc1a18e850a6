/**
 * AES-256-XTS, plain64, clusters of 64 KiB: our sector ciphers against what else there is.
 *
 *   Node       the WASM kernel, `@noble/ciphers`, our path through `node:crypto`, and `node:crypto` with an object a sector
 *   no AES-NI  the WASM kernel and OpenSSL, in a process in which OpenSSL is told that the processor has no instructions for AES. It
 *              gets all 64 KiB as one data unit, so that it is timed and not the making of its objects
 *   Chromium   the WASM kernel and `@noble/ciphers` in a page
 */
import { build } from 'esbuild';
import { execFileSync } from 'node:child_process';
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { chromium } from 'playwright-core';
import { createNodeSectorCipher } from '../src/crypto/node-sector-cipher.js';
import {
  CLUSTER_BYTES,
  compareInTurns,
  portableCiphers,
  timeCiphers,
  XTS_KEY,
  type Direction,
  type NamedCipher,
} from './ciphers-page.js';
import { markdownTable, type Timing } from './compare.js';
import type { PeerCipher } from './noble-xts.js';

const CHROMIUM = '/usr/bin/chromium';
const SECTOR_BYTES = 512;

/** OpenSSL's mask of processor features: this one takes AES-NI and PCLMULQDQ away. */
const NO_AES_INSTRUCTIONS = '~0x200000200000000';

const THROUGH_NODE = 'node:crypto between two WASM passes';
const PER_SECTOR = 'node:crypto, an object a sector';

type Timings = Record<Direction, Timing[]>;

export async function bench(): Promise<string> {
  const node = benchNode();
  return [
    `Node\n\n${table(node)}`,
    `${THROUGH_NODE} is ${gain(node.encrypt)} (encrypt) and ${gain(node.decrypt)} (decrypt) as fast as ${PER_SECTOR}.`,
    `Node, no AES-NI\n\n${table(inProcessWithoutAes())}`,
    `Chromium\n\n${table(await benchChromium())}`,
  ].join('\n\n');
}

function benchNode(): Timings {
  const options = { cipher: 'aes-256', mode: 'xts', iv: 'plain64', key: XTS_KEY } as const;
  const ciphers: NamedCipher[] = [
    ...portableCiphers(),
    { name: THROUGH_NODE, cipher: createNodeSectorCipher(options) },
    { name: PER_SECTOR, cipher: cipherPerSector() },
  ];
  return { encrypt: timeCiphers(ciphers, 'encrypt'), decrypt: timeCiphers(ciphers, 'decrypt') };
}

function cipherPerSector(): PeerCipher {
  const run = (data: Uint8Array, firstSector: number, make: typeof createCipheriv | typeof createDecipheriv) => {
    const iv = Buffer.alloc(16);
    for (let at = 0; at < data.length; at += SECTOR_BYTES) {
      iv.writeUIntLE(firstSector + at / SECTOR_BYTES, 0, 6);
      const cipher = make('aes-256-xts', XTS_KEY, iv);
      data.set(cipher.update(data.subarray(at, at + SECTOR_BYTES)), at);
      cipher.final();
    }
  };
  return {
    encrypt: (data, firstSector) => run(data, firstSector, createCipheriv),
    decrypt: (data, firstSector) => run(data, firstSector, createDecipheriv),
  };
}

/** Runs `printWithoutAes` of this module, as it was bundled, in a process of its own. */
function inProcessWithoutAes(): Timings {
  const script = `import(${JSON.stringify(import.meta.url)}).then((bench) => bench.printWithoutAes())`;
  const env = { ...process.env, OPENSSL_ia32cap: NO_AES_INSTRUCTIONS };
  return JSON.parse(execFileSync(process.execPath, ['--eval', script], { env, encoding: 'utf8' })) as Timings;
}

export function printWithoutAes(): void {
  const wasm = portableCiphers()[0]!;
  const timeAgainstOpenssl = (direction: Direction) => {
    const make = direction === 'encrypt' ? createCipheriv : createDecipheriv;
    const data = new Uint8Array(CLUSTER_BYTES);
    const iv = Buffer.alloc(16);
    const openssl = () => {
      const cipher = make('aes-256-xts', XTS_KEY, iv);
      cipher.update(data);
      cipher.final();
    };
    return compareInTurns([
      { name: wasm.name, run: () => wasm.cipher[direction](data, 0) },
      { name: 'OpenSSL without AES-NI', run: openssl },
    ]);
  };
  console.log(JSON.stringify({ encrypt: timeAgainstOpenssl('encrypt'), decrypt: timeAgainstOpenssl('decrypt') }));
}

async function benchChromium(): Promise<Timings> {
  const bundle = await build({
    entryPoints: ['bench/ciphers-page.ts'],
    bundle: true,
    write: false,
    format: 'iife',
    globalName: 'bench',
    target: 'es2022',
  });
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu'] });
  try {
    const page = await browser.newPage();
    await page.addScriptTag({ content: bundle.outputFiles[0]!.text });
    return await page.evaluate('bench.benchPage()');
  } finally {
    await browser.close();
  }
}

/** How many times as fast our path through `node:crypto` is as the plain one. */
function gain(timings: readonly Timing[]): string {
  const ratioOf = (wanted: string) => timings.find(({ name }) => name === wanted)!.ratio;
  return `${(ratioOf(THROUGH_NODE) / ratioOf(PER_SECTOR)).toFixed(1)} x`;
}

/** Speeds, and how many times as fast as each of the others the WASM kernel, the first one, is. */
function table({ encrypt, decrypt }: Timings): string {
  const rows = encrypt.map(({ name, microseconds, ratio }, index) => {
    const other = decrypt[index]!;
    return [name, speed(microseconds), times(ratio), speed(other.microseconds), times(other.ratio)];
  });
  return markdownTable([['', 'encrypt, MB/s', 'WASM is', 'decrypt, MB/s', 'WASM is'], ...rows]);
}

function speed(microseconds: number): string {
  return (CLUSTER_BYTES / microseconds).toFixed(0);
}

/** @param ratio the time of the WASM kernel over that of the row. */
function times(ratio: number): string {
  return `${(1 / ratio).toFixed(2)} x`;
}
