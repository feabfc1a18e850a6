/** A folder of OPFS as it is, past the package: temporary files and all. */
import type { Page } from 'playwright-core';

export const DEFAULT_FOLDER = 'qcow2-wasm';

/** The names in it, none where there is no such folder. */
export function namesIn(page: Page, folder = DEFAULT_FOLDER): Promise<string[]> {
  return page.evaluate(async (name) => {
    const root = await navigator.storage.getDirectory();
    const found = await root.getDirectoryHandle(name).catch(() => null);
    const names: string[] = [];
    if (found !== null) for await (const entry of found.keys()) names.push(entry);
    return names;
  }, folder);
}

/** Of files that are being written, or were when their tab ended. */
export async function temporaryNames(page: Page, folder = DEFAULT_FOLDER): Promise<string[]> {
  return (await namesIn(page, folder)).filter((name) => name.startsWith('.tmp-'));
}
