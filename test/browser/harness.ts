/**
 * Real Chromium for the browser tests: a profile that outlives the browser, so that a page can be reloaded, the browser
 * started again, or its process killed, and OPFS looked at afterwards.
 *
 * - `serveFolder` gives a folder (and others, mounted below it) an origin on 127.0.0.1: a secure context, as OPFS needs.
 *   Storage belongs to the origin, so keep one server for all pages of a test.
 * - `launchBrowser` starts Debian's Chromium on a fresh profile. `kill()` ends all its processes as a power cut would end
 *   them (SIGKILL), `relaunch()` starts it again on the same profile. `opfsFiles()` are the files in OPFS as a kill left them.
 * - `showConsoleOnFailure` prints what the pages said when a test fails.
 */
import { mkdtemp, readFile, readdir, rm, stat } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium, type BrowserContext, type Page } from 'playwright-core';
import sirv from 'sirv';
import { afterEach } from 'vitest';

const CHROMIUM = '/usr/bin/chromium';

/**
 * How long anything is waited for, and what pages wait unless told otherwise. It is time that only a test that fails takes: a busy machine
 * needs many times what a quiet one does.
 */
export const PATIENCE = { timeout: 240_000 } as const;

const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // A guest that boots is code compiled as it goes. Optimizing it takes more than it saves in the minute that a test lives.
  '--js-flags=--liftoff-only',
];

export interface FolderServer {
  /** The origin, without a slash at the end. */
  readonly url: string;
  close(): Promise<void>;
}

/**
 * Serves `folder` at `/` on a free port of 127.0.0.1.
 * @param mounts more folders, by the path they are seen under: `{ '/dist': 'dist' }`.
 * @param headers of every answer.
 */
export async function serveFolder(
  folder: string,
  mounts: Record<string, string> = {},
  headers: Record<string, string> = {},
): Promise<FolderServer> {
  const root = sirv(folder, { dev: true });
  const mounted = Object.entries(mounts).map(([prefix, path]) => ({ prefix, handler: sirv(path, { dev: true }) }));
  const server = createServer((request, response) => {
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    const found = mounted.find(({ prefix }) => request.url?.startsWith(`${prefix}/`));
    if (found === undefined) return root(request, response, () => notFound(request, response));
    request.url = request.url?.slice(found.prefix.length);
    return found.handler(request, response, () => notFound(request, response));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function notFound(request: IncomingMessage, response: ServerResponse): void {
  response.writeHead(404).end(`${request.url} is not served`);
}

/** One profile and the browser that runs on it now. */
export class TestBrowser {
  readonly #profile: string;
  readonly #viewport: { width: number; height: number };
  #context: BrowserContext | null = null;
  readonly #lines: string[] = [];

  private constructor(profile: string, viewport: { width: number; height: number }) {
    this.#profile = profile;
    this.#viewport = viewport;
  }

  static async launch(viewport = { width: 1280, height: 800 }): Promise<TestBrowser> {
    await stat(CHROMIUM).catch(() => {
      throw new Error(`${CHROMIUM} is missing: install it with "apt-get install chromium"`);
    });
    const browser = new TestBrowser(await mkdtemp(join(tmpdir(), 'qcow2-wasm-profile-')), viewport);
    await browser.#start();
    return browser;
  }

  /** Opens a tab. What its console says is kept for `consoleText()`. */
  async open(url: string): Promise<Page> {
    const page = await this.#running().newPage();
    page.setDefaultTimeout(PATIENCE.timeout);
    page.on('console', (message) => this.#lines.push(`[${message.type()}] ${message.text()}`));
    page.on('pageerror', (error) => this.#lines.push(`[page error] ${error.stack ?? error.message}`));
    page.on('crash', () => this.#lines.push('[page crashed]'));
    await page.goto(url);
    return page;
  }

  consoleText(): string {
    return this.#lines.join('\n');
  }

  /** Ends the browser and all its processes at once with SIGKILL: nothing gets to say goodbye. The profile stays. */
  async kill(): Promise<void> {
    const context = this.#running();
    const processId = await this.#browserProcess();
    const closed = new Promise<void>((resolve) => context.once('close', () => resolve()));
    // Playwright gives the browser a process group of its own, with all its helpers in it.
    process.kill(-processId, 'SIGKILL');
    await closed;
    await this.#processesEnded();
    this.#context = null;
  }

  /**
   * The files in OPFS where Chromium keeps them, whichever origin they are of; their names are not kept there. Nothing but
   * pages writes them, so after `kill()` they are as the kill left them.
   */
  async opfsFiles(): Promise<string[]> {
    const kept = join(this.#profile, 'Default/File System');
    const names = await readdir(kept, { recursive: true });
    return names.filter((name) => /\/t\/\d+\/\d+$/.test(name)).map((name) => join(kept, name));
  }

  /** Starts the browser again on the same profile, after `kill()` or instead of the one that runs. */
  async relaunch(): Promise<void> {
    await this.#context?.close();
    await this.#start();
  }

  /** Ends the browser and removes the profile. */
  async close(): Promise<void> {
    await this.#context?.close();
    this.#context = null;
    await this.#processesEnded();
    await rm(this.#profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }

  async #start(): Promise<void> {
    this.#context = await chromium.launchPersistentContext(this.#profile, {
      executablePath: CHROMIUM,
      headless: true,
      args: ARGUMENTS,
      viewport: this.#viewport,
    });
  }

  #running(): BrowserContext {
    if (this.#context === null) throw new Error('the browser does not run: call relaunch() first');
    return this.#context;
  }

  /** The browser's own process: the one on our profile that is nobody's helper. */
  async #browserProcess(): Promise<number> {
    for (const { processId, commandLine } of await this.#processes()) {
      if (!commandLine.includes('--type=')) return processId;
    }
    throw new Error(`no browser process runs on ${this.#profile}`);
  }

  async #processes(): Promise<{ processId: number; commandLine: string }[]> {
    const found: { processId: number; commandLine: string }[] = [];
    for (const entry of await readdir('/proc')) {
      if (!/^\d+$/.test(entry)) continue;
      // A process may end while it is looked at.
      const commandLine = await readFile(`/proc/${entry}/cmdline`, 'latin1').catch(() => '');
      if (commandLine.includes(this.#profile)) found.push({ processId: Number(entry), commandLine });
    }
    return found;
  }

  /** Helpers end by themselves when their browser is gone; they still hold the profile until then. */
  async #processesEnded(): Promise<void> {
    for (let attempt = 0; attempt < 100; attempt++) {
      const left = await this.#processes();
      if (left.length === 0) return;
      if (attempt === 50) for (const { processId } of left) killIfThere(processId);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`processes still run on ${this.#profile}`);
  }
}

function killIfThere(processId: number): void {
  try {
    process.kill(processId, 'SIGKILL');
  } catch {
    // It ended by itself.
  }
}

/** Starts Chromium on a fresh profile. */
export function launchBrowser(viewport?: { width: number; height: number }): Promise<TestBrowser> {
  return TestBrowser.launch(viewport);
}

/** Call it in a `describe`: when a test of it fails, what the pages wrote to their consoles is printed. */
export function showConsoleOnFailure(browser: () => TestBrowser | undefined): void {
  afterEach(({ task }) => {
    if (task.result?.state === 'fail') console.error(`Console of the pages:\n${browser()?.consoleText() ?? '(none)'}`);
  });
}
