/** The label beside the terminal: facts of the disk that is open, and its counters. */
import type { DiskInfo, DiskStats, OpfsDisk } from 'qcow2-wasm/opfs';
import type { DiskActivity } from 'qcow2-wasm/v86';
import { isThrownAway } from './disk-for-tab.js';
import { element, formatBytes, setText } from './page.js';

/** What `window.demo.stats()` gives: the guest's requests, and what the engine did about them. */
export interface DemoStats {
  /** Requests of the guest since this boot. */
  readonly guest: DiskActivity;
  /** Since the disk was opened. */
  readonly disk: DiskStats;
  readonly path: string;
  readonly backingFile: string | null;
  readonly encryption: 'luks' | 'aes' | null;
  /** `flush-hook`, or `timer` where v86 has moved on. */
  readonly seam: 'flush-hook' | 'timer';
}

/** On the label, and on the tab: two tabs may run two disks. */
export function showDiskName(name: string): void {
  setText('disk-name', name);
  document.title = `${name} · qcow2-wasm`;
}

export function showDiskFacts({ info }: OpfsDisk, seam: DemoStats['seam']): void {
  const clusters = formatBytes(info.clusterSize);
  setText('location', isThrownAway() ? 'the memory of this tab' : `OPFS of ${location.host}: ${info.path}`);
  // Behind the name stands the version of the file, which is no reading.
  setText('base', info.backingFile?.replace(/#identity=.*/, '') ?? 'nothing: the image is whole');
  setText('capacity', formatBytes(info.size));
  setText('format', `qcow2 v${info.version}, ${clusters} clusters, ${info.refcountBits}-bit refcounts`);
  showProtection(info);
  setText('seam', seam === 'flush-hook' ? 'the guest (FLUSH CACHE) and a timer' : 'a timer only');
}

/** How the disk is encrypted, and what can be done about it: nothing while no machine has it (null), `locked` or not. */
export function showProtection(info: DiskInfo | null, locked = false): void {
  const encryption = info?.encryption ?? null;
  setText('encryption', info !== null ? cipherText(info) : locked ? 'locked' : '-');
  element('disk-name', HTMLElement).classList.toggle('locked', encryption !== null);
  element('protect', HTMLButtonElement).hidden = info === null || encryption === 'luks';
  element('change-passphrase', HTMLButtonElement).hidden = encryption !== 'luks';
  element('protect-legacy', HTMLElement).hidden = encryption !== 'aes';
}

function cipherText({ encryption, cipher }: DiskInfo): string {
  if (encryption === null || cipher === null) return 'none';
  const name = `${cipher.cipher}-${cipher.mode}`.toUpperCase();
  return encryption === 'luks' ? `LUKS, ${name}` : `legacy ${name}, weak`;
}

export function showCounters({ guest, disk }: DemoStats): void {
  setText('reads', count(guest.reads));
  setText('read-bytes', formatBytes(guest.readBytes));
  setText('writes', count(guest.writes));
  setText('written-bytes', formatBytes(guest.writtenBytes));
  setText('flushes', count(guest.flushes));
  setText('stable', guest.dirty ? 'writing' : 'all stable');
  const lookups = disk.cacheHits + disk.cacheMisses;
  setText('cache', lookups === 0 ? '-' : `${Math.floor((100 * disk.cacheHits) / lookups)} %`);
  setText('cache-lookups', `${count(lookups)} lookups`);
  setText('file-size', formatBytes(disk.fileSize));
}

function count(value: number): string {
  return value < 10_000 ? String(value) : `${(value / 1000).toFixed(value < 100_000 ? 1 : 0)}k`;
}
