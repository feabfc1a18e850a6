/** The demo page: puts the parts together, starts, and offers `window.demo` for automation (see demo/README.md). */
import type { BaseStatus, BootProfile } from 'qcow2-wasm/opfs';
import { askToReset, connectControls } from './controls.js';
import { connectThrowAway } from './disk-for-tab.js';
import { DiskMap } from './disk-map.js';
import type { DemoStats } from './drive-label.js';
import { startWatchfully } from './eviction.js';
import { GuestConsole } from './guest-console.js';
import { givenPassphrase } from './image-passphrase.js';
import { showNotice } from './notice.js';
import { keepPage, whenPageIsKept } from './offline-page.js';
import { connectOffline } from './offline-controls.js';
import { element, setState } from './page.js';
import { ResumeOffer } from './resume-offer.js';
import { SerialTerminal } from './serial-terminal.js';
import { Session } from './session.js';
import { plainSnapshot, snapshotActions, type DemoSnapshot } from './snapshot-controls.js';
import { SnapshotPanel } from './snapshot-panel.js';
import { StoragePanel } from './storage-panel.js';
import { UnlockPrompt } from './unlock-prompt.js';
import { VgaScreen } from './vga-screen.js';

/** What scripts may do. All that fails rejects with a `Qcow2Error`. */
export interface DemoAutomation {
  /** Types `text` on the guest's serial port. */
  send(text: string): void;
  /** Everything the guest printed on its serial port since this boot; after a restore, what came back and all since. */
  output(): string;
  flush(): Promise<void>;
  /** The disk, whole and standalone. The guest stands still until it is done. */
  exportDisk(): Promise<Blob>;
  /** Makes the image the disk and boots from it; one that is refused changes nothing. */
  openImage(image: Blob, options?: PassphraseOption): Promise<void>;
  /** A fresh disk over the base, protected if there is a passphrase; does not ask. */
  reset(options?: PassphraseOption): Promise<void>;
  /** Opens the disk and boots from it when the page is `locked`. One that is wrong leaves it so. */
  unlock(passphrase: string): Promise<void>;
  /** Encrypts the disk there is. The guest stands still meanwhile, and goes on. */
  protect(passphrase: string): Promise<void>;
  /** Of a protected disk; the guest runs on. */
  changePassphrase(passphrase: string, newPassphrase: string): Promise<void>;
  stats(): Promise<DemoStats>;
  /** The base images on servers under the disk, and how much of them is here. */
  bases(): Promise<BaseStatus[]>;
  /** Fetches the rest of the base; the guest runs on. When it resolves, page and disk need no server. */
  makeAvailableOffline(): Promise<void>;
  /** What the guest has read of the base since the disk was opened, to be shipped beside it. */
  bootProfile(): Promise<BootProfile>;
  /** Machine and disk as they are now, in place of a snapshot of that name. The guest stands still until it is done. */
  saveSnapshot(name: string): Promise<DemoSnapshot>;
  /** By name (the newest of it), else by id; from a boot on. The guest goes on from there; one that is refused changes nothing. */
  loadSnapshot(nameOrId: string): Promise<DemoSnapshot>;
  /** Oldest first. */
  snapshots(): Promise<DemoSnapshot[]>;
  /** By name (the newest of it), else by id. */
  deleteSnapshot(nameOrId: string): Promise<void>;
}

export interface PassphraseOption {
  readonly passphrase?: string;
}

declare global {
  interface Window {
    demo: DemoAutomation;
  }
}

function hasOpfs(): boolean {
  return window.isSecureContext && typeof navigator.storage?.getDirectory === 'function';
}

const terminal: SerialTerminal = new SerialTerminal(element('serial', HTMLElement), (text) => session.send(text));
const container = element('screen', HTMLElement);
const screen: VgaScreen = new VgaScreen(container, container.parentElement!, () => guest.use('screen'));
const guest = new GuestConsole(terminal, screen, () => session.noteReady());
const actions = snapshotActions(() => session);
const offer = new ResumeOffer((snapshot) => void actions.resume(snapshot));
// Who types has chosen the guest that boots.
terminal.onKey(() => offer.withdraw());
screen.onKey(() => offer.withdraw());
const session: Session = new Session(
  {
    console: guest,
    map: new DiskMap(element('map', HTMLCanvasElement)),
    snapshots: new SnapshotPanel(actions),
    offer,
    unlock: new UnlockPrompt({
      unlock: async (passphrase) => {
        await session.unlock(passphrase);
        // What had the focus is gone.
        if (document.activeElement === document.body) terminal.focus();
      },
      startOver: askToReset,
    }),
  },
  { flushTimers: new URLSearchParams(location.search).get('flush') !== 'guest' },
);

window.demo = {
  send: (text) => {
    offer.withdraw();
    session.send(text);
  },
  output: () => guest.output,
  flush: () => session.flush(),
  exportDisk: () => session.exportDisk(),
  openImage: (image, { passphrase } = {}) => session.openImage(image, givenPassphrase(passphrase)),
  reset: ({ passphrase } = {}) => session.reset(passphrase),
  unlock: (passphrase) => session.unlock(passphrase),
  protect: (passphrase) => session.protect(passphrase),
  changePassphrase: (passphrase, newPassphrase) => session.changePassphrase(passphrase, newPassphrase),
  stats: () => session.stats(),
  bases: () => session.bases(),
  makeAvailableOffline: () => session.makeAvailableOffline().then(whenPageIsKept),
  bootProfile: () => session.bootProfile(),
  saveSnapshot: async (name) => plainSnapshot(await session.saveSnapshot(name)),
  loadSnapshot: async (nameOrId) => plainSnapshot(await session.loadSnapshot(nameOrId)),
  snapshots: async () => (await session.listSnapshots()).map(plainSnapshot),
  deleteSnapshot: (nameOrId) => session.deleteSnapshot(nameOrId),
};

if (hasOpfs()) {
  connectControls(session);
  connectOffline(session);
  terminal.focus();
  // Asks for storage that the browser does not clear by itself; the demo works without.
  void navigator.storage.persist?.().catch(() => false);
  void keepPage();
  connectThrowAway();
  const storage = new StoragePanel(session);
  void storage.look();
  void startWatchfully(() => session.start());
} else {
  setState('error');
  showNotice({
    title: 'This browser has no private file system for the disk',
    advice: window.isSecureContext
      ? 'The demo needs OPFS with synchronous access: Chromium 102, Firefox 111, Safari 17, or newer. Private windows may lack it.'
      : 'Open the page over https, or from localhost: browsers give storage to secure pages only.',
    actions: [],
  });
}
