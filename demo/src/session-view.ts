/** The parts of the page that a session shows itself in. */
import type { DiskMap } from './disk-map.js';
import type { GuestConsole } from './guest-console.js';
import type { ResumeOffer } from './resume-offer.js';
import type { SnapshotPanel } from './snapshot-panel.js';
import type { UnlockPrompt } from './unlock-prompt.js';

export interface SessionView {
  readonly console: GuestConsole;
  readonly map: DiskMap;
  readonly snapshots: SnapshotPanel;
  readonly offer: ResumeOffer;
  readonly unlock: UnlockPrompt;
}
