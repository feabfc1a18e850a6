/** What the guest has said and shown, as its snapshots take it along and bring it back. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { GuestConsole } from '../../demo/src/guest-console.js';
import { hasImage, notesOf } from '../../demo/src/picture-file.js';
import type { SerialTerminal } from '../../demo/src/serial-terminal.js';
import type { VgaScreen } from '../../demo/src/vga-screen.js';

const IMAGE = Uint8Array.of(1, 2, 3);

/** A console without a page, on whose terminal `picture` makes the pictures; `shown` is what was replayed there. */
function consoleWith(picture: () => Promise<Uint8Array>): { readonly guest: GuestConsole; readonly shown: string[] } {
  const shown: string[] = [];
  const terminal = { writeByte: () => undefined, picture, replay: async (text: string) => void shown.push(text) };
  const screen = { isGraphical: false };
  const guest = new GuestConsole(
    terminal as unknown as SerialTerminal,
    screen as unknown as VgaScreen,
    () => undefined,
  );
  return { guest, shown };
}

function say(guest: GuestConsole, text: string): void {
  for (const byte of new TextEncoder().encode(text)) guest.receive(byte);
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  vi.spyOn(console, 'warn').mockReturnValue();
});
afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
});

describe('what a snapshot takes along of the console', () => {
  it('is a picture, and whether the guest was ready or halted, and its text', async () => {
    const { guest, shown } = consoleWith(() => Promise.resolve(IMAGE));
    say(guest, 'GUEST-READY\r\n# ');
    const captured = await guest.capture({ halted: false });
    expect(captured?.subarray(0, IMAGE.length)).toEqual(IMAGE);
    say(guest, 'later\r\n');
    expect(await guest.replay(captured)).toEqual({ ready: true, halted: false, serial: 'GUEST-READY\r\n# ' });
    expect(shown).toEqual(['GUEST-READY\r\n# ']);
    expect(guest.output).toBe('GUEST-READY\r\n# ');
  });

  it('is all but the picture where that takes more than a second, and where it fails', async () => {
    const late = (): Promise<never> => new Promise(() => undefined);
    const failing = (): Promise<never> => Promise.reject(new Error('no canvas'));
    for (const picture of [late, failing]) {
      const { guest, shown } = consoleWith(picture);
      say(guest, 'Power down\r\n');
      const capturing = guest.capture({ halted: true });
      await vi.advanceTimersByTimeAsync(1000);
      const captured = (await capturing)!;
      expect(hasImage(captured)).toBe(false);
      expect(await notesOf(captured)).toEqual({ ready: false, halted: true, serial: 'Power down\r\n' });
      await guest.replay(captured);
      expect(guest.ready, 'it had not booted then').toBe(false);
      expect(shown).toEqual(['Power down\r\n']);
    }
  });
});
