/**
 * How the pages of one origin speak of who has a disk: a BroadcastChannel with the name of the disk's lock. Types, and the channel.
 *
 *   who wants the disk                     whoever has it open
 *   { ask, mode }      ------------------->   again every second, for who is just opening the disk
 *                      <-------------------  { holder, ask, state: 'heard' }      at once
 *                      <-------------------  { holder, ask, state: 'released' }   or `refused`, or `failed`: exactly one
 *   { withdraw: ask }  ------------------->   when it does not wait any more
 *
 * The lock alone says who may use the file. What is said here only explains why it becomes free, or does not: a tab that was killed
 * says nothing, and its lock is free.
 */
import type { ClaimMode } from './image-files.js';
import type { WireError } from './protocol.js';

export interface AskMessage {
  /** Names the question. */
  readonly ask: string;
  /** What the asker will do with the disk: who only reads needs none of the other readers to go. */
  readonly mode: ClaimMode;
}

export interface WithdrawMessage {
  readonly withdraw: string;
}

interface From {
  /** Names who answers. */
  readonly holder: string;
  /** The question. */
  readonly ask: string;
}

/**
 * - `refused`: it keeps the disk, and why
 * - `failed`: it has let go of it, and its last writes are lost
 */
export type AnswerMessage =
  | (From & { readonly state: 'heard' })
  | (From & { readonly state: 'released' })
  | (From & { readonly state: 'refused'; readonly why: string })
  | (From & { readonly state: 'failed'; readonly error: WireError });

export type TakeOverMessage = AskMessage | WithdrawMessage | AnswerMessage;

export interface TakeOverChannel {
  post(message: TakeOverMessage): void;
  close(): void;
}

/** @param lock the name of the disk's lock (`fileLock`). */
export function openTakeOverChannel(lock: string, receive: (message: TakeOverMessage) => void): TakeOverChannel {
  const channel = new BroadcastChannel(lock);
  channel.addEventListener('message', ({ data }: MessageEvent<TakeOverMessage>) => receive(data));
  return {
    post: (message) => channel.postMessage(message),
    close: () => channel.close(),
  };
}
