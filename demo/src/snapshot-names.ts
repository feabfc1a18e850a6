/** The names that the page gives to snapshots itself. None is that of another snapshot: it would be replaced. */

/** UTF-8; what other tools take. */
const NAME_BYTES = 255;

const DEFAULT_NAME = /^Snapshot (\d+)$/;

/** "Snapshot 3" where 2 is the highest number in use. */
export function defaultName(taken: readonly string[]): string {
  const numbers = taken.map((name) => Number(DEFAULT_NAME.exec(name)?.[1] ?? 0));
  return `Snapshot ${Math.max(0, ...numbers) + 1}`;
}

/** For the present, when the visitor goes back to `name`: "Before A", or "Before A (2)" where that is taken. */
export function nameBefore(name: string, taken: readonly string[]): string {
  for (let number = 1; ; number++) {
    const end = number === 1 ? '' : ` (${number})`;
    const free = cut(`Before ${name}`, NAME_BYTES - end.length) + end;
    if (!taken.includes(free)) return free;
  }
}

/** As many whole characters of `text` as take at most `bytes` bytes of UTF-8. */
function cut(text: string, bytes: number): string {
  return text.slice(0, new TextEncoder().encodeInto(text, new Uint8Array(bytes)).read);
}
