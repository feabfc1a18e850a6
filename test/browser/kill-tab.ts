/** The end of a tab that gets no chance to say goodbye. */
import type { Page } from 'playwright-core';

/** Ends the process of the tab, with its workers. The browser and the other tabs go on. */
export async function killTab(page: Page): Promise<void> {
  const session = await page.context().newCDPSession(page);
  const crashed = new Promise<void>((resolve) => page.once('crash', () => resolve()));
  // A process that ends answers nothing.
  session.send('Page.crash').catch(() => undefined);
  await crashed;
  await page.close();
}
