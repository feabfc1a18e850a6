/**
 * `npm start`: builds what is not built (the library, the guest and its boot profile, the demo page), then serves the demo and prints its
 * address. PORT chooses the port; only this machine can reach it.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { isStale, ROOT } from './stale.mjs';

const DEFAULT_PORT = 8086;
/** A page can't start without these; an image of one's own replaces the first. */
const GUEST_FILES = ['linux.qcow2', 'bios/bios.bin', 'bios/vgabios-stdvga.bin'];

function start() {
  const port = chosenPort();
  runScript('scripts/build.mjs');
  if (!GUEST_FILES.every((name) => existsSync(join(ROOT, 'demo/guest', name)))) runScript('demo/guest/make-guest.mjs');
  provideProfile();
  runScript('demo/build.mjs');
  return serveDemo(port);
}

/** @returns {number} */
function chosenPort() {
  const text = process.env.PORT;
  if (text === undefined || text === '') return DEFAULT_PORT;
  const port = /^\d+$/.test(text) ? Number(text) : NaN;
  if (!(port <= 65535)) throw new Error(`PORT is "${text}"; it must be a number from 0 to 65535.`);
  return port;
}

/** @param {string} path of a build script, which says itself what it does and what went wrong */
function runScript(path) {
  const { status, error } = spawnSync(process.execPath, [join(ROOT, path)], { cwd: ROOT, stdio: 'inherit' });
  if (error) throw error;
  if (status !== 0) throw new Error(`${path} failed, so the demo is not served.`);
}

/** What a first boot reads, recorded once for each guest. It saves visitors time; without it the demo is as good. */
function provideProfile() {
  const [profile, guest] = ['demo/guest/linux.qcow2.profile.json', 'demo/guest/linux.qcow2'];
  if (!isStale([profile], [guest])) return;
  console.log('Booting the guest once, to note what a boot reads ...');
  try {
    runScript('demo/guest/boot-profile.mjs');
  } catch {
    console.warn(
      'The demo is served without a boot profile: a first boot fetches each part when the guest asks for it.',
    );
  }
}

/** @param {number} port */
async function serveDemo(port) {
  const { serve } = await import('../demo/serve.mjs');
  const { url, close } = await serve({ port });
  console.log(`Demo: ${url}`);
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, close);
}

try {
  await start();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
