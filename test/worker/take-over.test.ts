/** Asking for a disk that somebody has open, and letting go of it. Holder and asker are in one thread, over a real BroadcastChannel. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Qcow2Error } from '../../src/errors.js';
import { DiskHolder, type HolderOptions } from '../../src/worker/disk-holder.js';
import { openTakeOverChannel, type TakeOverChannel } from '../../src/worker/take-over-channel.js';
import { takeOver, type WantedDisk } from '../../src/worker/take-over.js';
import { takeLock } from '../../src/worker/web-locks.js';
import { useFakeLocks } from './fake-locks.js';

const LOCK = 'qcow2-wasm:disks/disk.qcow2';
const PATH = '/disks/disk.qcow2';

const holders: DiskHolder[] = [];

beforeEach(() => useFakeLocks());

afterEach(() => {
  for (const holder of holders.splice(0)) holder.close();
  vi.unstubAllGlobals();
});

/** Somebody who has the disk; what it did. */
async function holdDisk(options: Partial<HolderOptions> = {}): Promise<string[]> {
  return (await heldDisk(options)).log;
}

/** The same; `close` is what its page does of itself. */
async function heldDisk(options: Partial<HolderOptions>): Promise<{ log: string[]; close: () => void }> {
  const { mode = 'write' } = options;
  const claim = await takeLock(LOCK, mode === 'write' ? 'exclusive' : 'shared', 0);
  if (claim === null) throw new Error('the lock is taken');
  const log: string[] = [];
  const holder = new DiskHolder({
    lock: LOCK,
    mode,
    consent: async (signal) => {
      log.push('asked');
      await options.consent?.(signal);
    },
    handOver: async () => {
      log.push('closed');
      claim.release();
      // As in a page: it stops listening when the disk is closed, before what came of it is told.
      holder.close();
      await options.handOver?.();
    },
  });
  holders.push(holder);
  const close = (): void => {
    claim.release();
    holder.close();
  };
  return { log, close };
}

function ask(options: Partial<WantedDisk> = {}): Promise<void> {
  return takeOver({ lock: LOCK, mode: 'write', path: PATH, patience: 2000, ...options });
}

/** What is answered from now on, to whomever. */
function listen(): { states: string[]; listener: TakeOverChannel } {
  const states: string[] = [];
  const listener = openTakeOverChannel(LOCK, (message) => {
    if ('state' in message) states.push(message.state);
  });
  return { states, listener };
}

/** The code and the words that `asking` fails with. */
async function failure(asking: Promise<void>): Promise<string> {
  const error: unknown = await asking.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof Qcow2Error)) throw new Error(`no Qcow2Error: ${String(error)}`);
  return `${error.code}: ${error.message}`;
}

const later = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

describe('who asks for a disk', () => {
  it('has it at once where nobody has it, and when its holder has let go of it', async () => {
    await ask();
    const log = await holdDisk();
    await ask();
    expect(log).toEqual(['asked', 'closed']);
    expect(await takeLock(LOCK, 'exclusive', 0)).not.toBeNull();
  });

  it('is told why by one who keeps it, long before its patience ends', async () => {
    const log = await holdDisk({ consent: () => Promise.reject(new Error('an export is under way')) });
    const startedAt = performance.now();
    expect(await failure(ask({ patience: 60_000 }))).toBe(
      `IN_USE: ${PATH} is in use, and its page keeps it: an export is under way`,
    );
    expect(performance.now() - startedAt).toBeLessThan(5000);
    expect(log).toEqual(['asked']);
  });

  it('is told which it was that its patience ended with: no answer, or no end', async () => {
    const claim = await takeLock(LOCK, 'exclusive', 0);
    expect(await failure(ask({ patience: 30 }))).toContain('did not answer within 30 ms');
    claim?.release();
    await later(0);
    await holdDisk({ consent: () => later(200) });
    expect(await failure(ask({ patience: 30 }))).toContain('was asked to let go of it, and had not after 30 ms');
  });

  it('has it when a holder ends without a word', async () => {
    const claim = await takeLock(LOCK, 'exclusive', 0);
    setTimeout(() => claim?.release(), 50);
    await ask({ patience: 60_000 });
  });

  it('hears that the last writes were lost, also where the lock was free before', async () => {
    const lost = new Qcow2Error('NO_SPACE', 'no room was left');
    await holdDisk({ handOver: () => later(50).then(() => Promise.reject(lost)) });
    expect(await failure(ask())).toBe(
      `NO_SPACE: ${PATH} is free, but what was written to it last could not be made stable: no room was left. ` +
        'Opened again it has what was flushed before',
    );
    await ask();
  });

  it('gives up by its signal, which the holder hears of', async () => {
    const gaveUp = new AbortController();
    let hasHeard = false;
    const log = await holdDisk({
      consent: (signal) =>
        new Promise((_, refuse) => {
          signal.addEventListener('abort', () => {
            hasHeard = true;
            refuse(new Error('nobody waits'));
          });
        }),
    });
    const asking = failure(ask({ patience: 60_000, signal: gaveUp.signal }));
    await vi.waitFor(() => expect(log).toEqual(['asked']));
    gaveUp.abort();
    expect(await asking).toMatch(/^ABORTED/);
    await vi.waitFor(() => expect(hasHeard).toBe(true));
  });
});

describe('who has a disk', () => {
  it('is asked once by several at a time, and answers all of them', async () => {
    const log = await holdDisk({ consent: () => later(50) });
    await Promise.all([ask(), ask(), ask()]);
    expect(log).toEqual(['asked', 'closed']);
  });

  it('is not asked any more when it closes the disk of itself meanwhile, and nothing of it is ended', async () => {
    let word = 'waits';
    const agree: { now: () => void } = { now: () => undefined };
    const consent = (signal: AbortSignal): Promise<void> => {
      signal.addEventListener('abort', () => (word = 'nobody waits'));
      return new Promise((resolve) => (agree.now = resolve));
    };
    const { log, close } = await heldDisk({ consent });
    const { states, listener } = listen();
    const asking = ask();
    await vi.waitFor(() => expect(log).toEqual(['asked']));
    close();
    await asking;
    await vi.waitFor(() => expect(states).toEqual(['heard', 'released']));
    listener.close();
    expect(word).toBe('nobody waits');
    agree.now();
    await later(20);
    expect(log).toEqual(['asked']);
  });

  it('is asked once by one who asks again, also when it has refused', async () => {
    const log = await holdDisk({ consent: () => later(50).then(() => Promise.reject(new Error('not now'))) });
    const channel = openTakeOverChannel(LOCK, () => undefined);
    const { states, listener } = listen();
    const question = { ask: 'a question', mode: 'write' } as const;
    for (let time = 0; time < 3; time++) channel.post(question);
    await vi.waitFor(() => expect(states).toEqual(['heard', 'refused']), { timeout: 5000 });
    channel.post(question);
    // Answered after the one before, whatever that comes to.
    channel.post({ ask: 'another question', mode: 'write' });
    await vi.waitFor(() => expect(states).toEqual(['heard', 'refused', 'heard', 'refused']), { timeout: 5000 });
    expect(log).toEqual(['asked', 'asked']);
    channel.close();
    listener.close();
  });

  it('hears a question that was asked while it was opening the disk', async () => {
    const claim = await takeLock(LOCK, 'exclusive', 0);
    const asking = ask({ patience: 5000 });
    await later(20);
    const log: string[] = [];
    const handOver = async (): Promise<void> => {
      log.push('closed');
      claim?.release();
    };
    holders.push(new DiskHolder({ lock: LOCK, mode: 'write', consent: () => Promise.resolve(), handOver }));
    await asking;
    expect(log).toEqual(['closed']);
  });

  it('is asked again after it has refused', async () => {
    let refuses = true;
    const log = await holdDisk({ consent: () => (refuses ? Promise.reject(new Error('not now')) : Promise.resolve()) });
    expect(await failure(ask())).toContain('not now');
    refuses = false;
    await ask();
    expect(log).toEqual(['asked', 'asked', 'closed']);
  });

  it('and only reads it, is not asked by who only reads it, and goes with all others for who writes it', async () => {
    const logs = [await holdDisk({ mode: 'read' }), await holdDisk({ mode: 'read' })];
    await ask({ mode: 'read' });
    expect(logs).toEqual([[], []]);
    await ask();
    expect(logs).toEqual([
      ['asked', 'closed'],
      ['asked', 'closed'],
    ]);
  });
});
