/** The demo page and the shell of its guest, as a test drives them. */
import type { Page } from 'playwright-core';
import type { DemoAutomation } from '../../demo/src/main.js';
import type { DemoSnapshot } from '../../demo/src/snapshot-controls.js';
import { PATIENCE, type TestBrowser } from './harness.js';

declare global {
  interface Window {
    demo: DemoAutomation;
  }
}

/** Of all pages: what a guest printed before it went back must not look like an answer. */
let commands = 0;

export class GuestPage {
  constructor(readonly page: Page) {}

  static async open(browser: TestBrowser, url: string): Promise<GuestPage> {
    return new GuestPage(await browser.open(url));
  }

  state(): Promise<string | undefined> {
    return this.page.evaluate(() => document.documentElement.dataset['state']);
  }

  /** Resolves once the page is in one of `states`; `error` fails the test with what the page says. */
  async whenState(...states: string[]): Promise<void> {
    const ended = await this.page.waitForFunction(
      (wanted) => wanted.find((state) => state === document.documentElement.dataset['state']),
      [...states, 'error'],
      PATIENCE,
    );
    const state = await ended.jsonValue();
    if (!state || !states.includes(state)) {
      throw new Error(`the page is in state "${state}": ${await this.page.locator('#notice').innerText()}`);
    }
  }

  /** Resolves when the guest's shell answers. */
  async booted(): Promise<void> {
    await this.whenState('ready');
    // The shell comes after the mark.
    await this.run('true');
  }

  /** Resolves when all that the guest's page was to do so far is done: what is asked for now has its turn after that. */
  async settled(): Promise<void> {
    const refusal = await this.delete('nobody has taken it').catch(String);
    if (!refusal?.includes('nobody has taken it')) throw new Error(`the page has not taken its turn: ${refusal}`);
  }

  /** Resolves when the start of the page is over, with all that it has to say: the guest boots before that. */
  async started(): Promise<void> {
    await this.whenState('booting', 'ready');
    await this.settled();
  }

  /** Takes the offer to go on from a snapshot; resolves when its guest runs. The state alone does not tell it from one that has booted. */
  async resume(): Promise<void> {
    await this.page.click('#resume-load');
    await this.page.waitForFunction(
      () => document.getElementById('boot-text')!.textContent.startsWith('Resumed in'),
      null,
      PATIENCE,
    );
    await this.whenState('ready');
  }

  /** Types a command on the guest's serial console; resolves with what it printed. */
  async run(command: string): Promise<string> {
    const mark = `m${++commands}`;
    // The empty quotes keep the echo of the typed line from looking like the marks it prints.
    await this.page.evaluate(
      (text) => window.demo.send(text),
      `echo BEGIN''-${mark}; ${command}; echo END''-${mark}\n`,
    );
    await this.page.waitForFunction((end) => window.demo.output().includes(end), `END-${mark}\r`, PATIENCE);
    const output = await this.page.evaluate(() => window.demo.output());
    return output.slice(output.indexOf(`BEGIN-${mark}\r`) + mark.length + 6, output.indexOf(`END-${mark}\r`)).trim();
  }

  save(name: string): Promise<DemoSnapshot> {
    return this.page.evaluate((wanted) => window.demo.saveSnapshot(wanted), name);
  }

  load(idOrName: string): Promise<DemoSnapshot> {
    return this.page.evaluate((wanted) => window.demo.loadSnapshot(wanted), idOrName);
  }

  delete(idOrName: string): Promise<void> {
    return this.page.evaluate((wanted) => window.demo.deleteSnapshot(wanted), idOrName);
  }

  /** Opens the dialog of downloads, which comes when the snapshots of the disk are known. */
  async openDownload(): Promise<void> {
    await this.page.click('#download');
    await this.page.locator('#download-dialog').waitFor();
  }

  snapshots(): Promise<DemoSnapshot[]> {
    return this.page.evaluate(() => window.demo.snapshots());
  }
}
