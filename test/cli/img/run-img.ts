/** Runs commands of qcow2-img in this process, in a folder of their own. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { main } from '../../../src/cli/img/main.js';
import type { Console } from '../../../src/cli/text/messages.js';

export interface Output {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

class Recorder implements Console {
  readonly program = 'qemu-img';
  written = '';
  told = '';

  out(text: string): void {
    this.written += text;
  }

  err(text: string): void {
    this.told += text;
  }

  flush(): void {}
}

/** The exit code, and what was written to stdout and stderr. */
export async function img(...args: string[]): Promise<Output> {
  const console = new Recorder();
  const code = await main(args, console);
  return { code, out: console.written, err: console.told };
}

/** Has `use` work in a new folder, which is gone afterwards. */
export async function inFolder(use: (path: (name: string) => string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'qcow2-img-'));
  try {
    await use((name) => join(folder, name));
  } finally {
    rmSync(folder, { recursive: true });
  }
}
