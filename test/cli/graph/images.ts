/** Images in a folder of their own, and a console that keeps what it is told. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { openNode } from '../../../src/cli/graph/open-node.js';
import type { BlockNode, OpenFlags, OptionValue } from '../../../src/cli/graph/block-node.js';
import type { Console } from '../../../src/cli/text/messages.js';
import { createImage, type CreateOptions } from '../../../src/index.js';
import { NodeFileStorage } from '../../../src/node.js';

export class KeptConsole implements Console {
  readonly program = 'qemu-io';
  text = '';
  messages = '';

  out(text: string): void {
    this.text += text;
  }

  err(text: string): void {
    this.messages += text;
  }

  flush(): void {}

  /** What was printed since the last call. */
  take(): string {
    const { text } = this;
    this.text = '';
    return text;
  }
}

/** An empty folder, there until the test has ended. */
export function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'qcow2-cli-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Makes an image; its path. */
export function newImage(folder: string, name: string, options: CreateOptions): string {
  const path = join(folder, name);
  const storage = NodeFileStorage.open(path, { create: true });
  createImage(storage, options);
  storage.close();
  return path;
}

export function newRaw(folder: string, name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** Opens a node as the command line would. */
export function open(
  fileName: string | null,
  options: Readonly<Record<string, OptionValue>> = {},
  flags: Partial<OpenFlags> = {},
): Promise<BlockNode> {
  const reference = { fileName, options: new Map(Object.entries(options)) };
  return openNode(reference, { console: new KeptConsole(), ...flags });
}

/** All bytes of a range. */
export function bytesOf(node: BlockNode, offset: number, length: number): number[] {
  const target = new Uint8Array(length);
  node.read(offset, target);
  return [...target];
}
