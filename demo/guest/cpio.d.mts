/** Types of cpio.mjs for the tests. */
export type CpioEntry = { path: string; mode?: number } & (
  | { kind: 'folder' }
  | { kind: 'file'; contents: Uint8Array | string }
  | { kind: 'link'; target: string }
  | { kind: 'device'; major: number; minor: number }
);
export function cpioArchive(entries: readonly CpioEntry[]): Buffer;
