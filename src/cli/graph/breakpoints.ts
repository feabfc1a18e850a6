/**
 * Breakpoints of `blkdebug`: requests that wait at an event until they are resumed.
 *
 * The engine carries out one request after the other, so none can be stopped half-way. What can be done honestly is to hold a
 * request back before it begins. That is offered for the events that every request of a kind comes to; others are refused.
 */
import { CliError } from '../text/messages.js';

export type RequestKind = 'read' | 'write';

const KIND_OF_EVENT: Readonly<Record<string, RequestKind>> = {
  read_aio: 'read',
  write_aio: 'write',
  pwritev: 'write',
};

export class Breakpoints {
  #points: readonly { readonly kind: RequestKind; readonly tag: string }[] = [];

  /** The next request that comes to `event` waits, under the name `tag`. Throws `CliError` for an event that can't be waited at. */
  set(event: string, tag: string): void {
    const kind = Object.hasOwn(KIND_OF_EVENT, event) ? KIND_OF_EVENT[event] : undefined;
    if (kind === undefined) throw new CliError('Operation not supported', { errno: 'ENOTSUP' });
    this.#points = [...this.#points, { kind, tag }];
  }

  /** False where there is none of that name. */
  remove(tag: string): boolean {
    const before = this.#points.length;
    this.#points = this.#points.filter((point) => point.tag !== tag);
    return this.#points.length < before;
  }

  /** The name under which a request that begins now has to wait; null for none. It is for one request. */
  hit(kind: RequestKind): string | null {
    const found = this.#points.find((point) => point.kind === kind);
    if (found === undefined) return null;
    this.#points = this.#points.filter((point) => point !== found);
    return found.tag;
  }
}
