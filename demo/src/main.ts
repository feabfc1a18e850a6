/** The demo page: puts the parts together, starts, and offers `window.demo` for automation (see demo/README.md). */
import type { BaseStatus, BootProfile } from 'qcow2-wasm/opfs';
import { askToReset, connectControls } from './controls.js';
import type { DemoDisk } from './disk-controls.js';
import { connectThrowAway } from './disk-for-tab.js';
import { readLedger } from './disk-ledger.js';
import { DiskMap } from './disk-map.js';
import { freeName } from './disk-names.js';
import type { DiskExport } from './disk-export.js';
import type { DemoStats } from './drive-label.js';
import { startWatchfully } from './eviction.js';
import { GuestConsole } from './guest-console.js';
import { nameOfImage } from './import-controls.js';
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
  /** The disk as it is now; whole, standalone and with its snapshots unless told. The guest runs on. */
  exportDisk(options?: DiskExport): Promise<Blob>;
  /**
   * Makes a new disk of the image (qcow2 or raw, a blob or an address) and boots from it; one that is refused changes nothing. Its name
   * gets a number if it is taken.
   */
  openImage(image: Blob | URL, options?: PassphraseOption & { readonly name?: string }): Promise<void>;
  /** All disks in this browser: first the one that is open here, then the one that was used last. */
  disks(): Promise<DemoDisk[]>;
  /** Boots from another disk. One that is protected leaves the page `locked`, unless there is a passphrase. */
  startDisk(name: string, options?: PassphraseOption): Promise<void>;
  /** A fresh disk over the base, protected if there is a passphrase. It is not started. */
  newDisk(name: string, options?: PassphraseOption): Promise<void>;
  /** Also of the disk that runs: its guest stands still while the file is copied. */
  duplicateDisk(name: string, newName: string): Promise<void>;
  /** Also of the disk that runs, unless it is protected. */
  renameDisk(name: string, newName: string): Promise<void>;
  /** Of a disk that is open nowhere; does not ask. */
  deleteDisk(name: string): Promise<void>;
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

const seenBefore = readLedger();
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
  { flushTimers: new URLSearchParams(location.search).get('flush') !== 'guest', seenBefore },
);

window.demo = {
  send: (text) => {
    offer.withdraw();
    session.send(text);
  },
  output: () => guest.output,
  flush: () => session.flush(),
  exportDisk: (options) => session.exportDisk(options),
  openImage: async (image, { passphrase, name = nameOfImage(image) } = {}) => {
    const taken = (await session.disks()).map((disk) => disk.name);
    await session.openImage(image, { name: freeName(name, taken), ask: givenPassphrase(passphrase) });
  },
  disks: () => session.disks(),
  startDisk: (name, { passphrase } = {}) => session.startDisk(name, passphrase),
  newDisk: (name, { passphrase } = {}) => session.makeDisk(name, passphrase),
  duplicateDisk: (name, newName) => session.duplicateDisk(name, newName),
  renameDisk: (name, newName) => session.renameDisk(name, newName),
  deleteDisk: (name) => session.deleteDisk(name),
  reset: ({ passphrase } = {}) => session.reset(passphrase),
  unlock: (passphrase) => session.unlock(passphrase),
  protect: (passphrase) => session.protect(passphrase),
  changePassphrase: (passphrase, newPassphrase) => session.changePassphrase(passphrase, newPassphrase),
  stats: () => session.stats(),
  bases: () => session.bases(),
  makeAvailableOffline: () => session.makeAvailableOffline().then(() => whenPageIsKept()),
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
  void keepPage(() => session.flush());
  connectThrowAway();
  const storage = new StoragePanel(session, seenBefore);
  void storage.look();
  void startWatchfully(seenBefore, () => session.start()).then(() => storage.startNoting());
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
