/** The page's elements by their ids, and the one word for how it goes. */

/**
 * `locked`: the disk waits for its passphrase. `ready`: the guest printed GUEST-READY on its serial port. `saving`, `restoring`: a
 * snapshot of it; `protecting`: its disk is being encrypted; it stands still.
 */
export type DemoState =
  'loading' | 'locked' | 'booting' | 'ready' | 'saving' | 'restoring' | 'protecting' | 'stopped' | 'error';

const STATE_WORDS: Record<DemoState, string> = {
  loading: 'Loading',
  locked: 'Locked',
  booting: 'Booting',
  ready: 'Running',
  saving: 'Saving',
  restoring: 'Restoring',
  protecting: 'Protecting',
  stopped: 'Stopped',
  error: 'Failed',
};

export function element<T extends HTMLElement>(id: string, type: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`the page has no ${type.name} with the id "${id}"`);
  return found;
}

export function setText(id: string, text: string): void {
  const target = element(id, HTMLElement);
  if (target.textContent !== text) target.textContent = text;
}

export function setState(state: DemoState): void {
  document.documentElement.dataset['state'] = state;
  element('state', HTMLElement).querySelector('b')!.textContent = STATE_WORDS[state];
}

export function currentState(): DemoState {
  return document.documentElement.dataset['state'] as DemoState;
}

/** The line above the terminal, and how far the bar under it is (0 to 1; null leaves it unknown). */
export function showProgress(text: string, fraction: number | null): void {
  setText('boot-text', text);
  const bar = element('boot-progress', HTMLProgressElement);
  if (fraction === null) bar.removeAttribute('value');
  else bar.value = Math.min(1, fraction);
}

export function progressText(): string {
  return element('boot-text', HTMLElement).textContent ?? '';
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const;

/** 1536 -> "1.5 KiB" */
export function formatBytes(bytes: number): string {
  const step = bytes < 1024 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10));
  const value = bytes / 1024 ** step;
  return `${step === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[step]}`;
}
