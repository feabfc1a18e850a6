/** What waits for its turn in the demo is done to the disk that it was asked for, or to none. */
import { describe, expect, it } from 'vitest';
import { DiskOfTab } from '../../demo/src/disk-of-tab.js';
import { DiskTurns } from '../../demo/src/disk-turns.js';
import { Turns } from '../../demo/src/turns.js';

interface Tab {
  readonly disk: DiskOfTab;
  readonly turns: DiskTurns;
  /** The names of the disks that something was done to. */
  readonly done: string[];
  /** As a job, in whichever turn. */
  readonly touch: () => Promise<void>;
}

/** A tab that has the disk "A". */
function newTab(): Tab {
  const disk = new DiskOfTab();
  disk.choose('A');
  const turns = new DiskTurns(new Turns({ stop: () => Promise.resolve(), start: () => undefined }), disk);
  const done: string[] = [];
  return { disk, turns, done, touch: async () => void done.push(disk.name) };
}

/** What happens in an earlier turn, while others wait. */
function before({ turns, disk }: Tab, change: (disk: DiskOfTab) => void): Promise<void> {
  return turns.ofAny(async () => change(disk));
}

const REFUSED = { code: 'IN_USE', message: expect.stringContaining('nothing was changed') as string };

describe('what is asked of a disk', () => {
  it('is refused where another disk was started before its turn, and so is all that was asked with it', async () => {
    const tab = newTab();
    const started = before(tab, (disk) => disk.choose('B'));
    const asked = [tab.turns.ofThis(tab.touch), tab.turns.ofThis(tab.touch)];
    await started;
    for (const job of asked) await expect(job).rejects.toMatchObject(REFUSED);
    await tab.turns.ofThis(tab.touch);
    expect(tab.done, 'what is asked of the other one is done').toEqual(['B']);
  });

  it('is refused where the disk was closed, also if one of its name takes its place', async () => {
    const tab = newTab();
    void before(tab, (disk) => disk.end());
    void before(tab, (disk) => disk.choose('A'));
    await expect(tab.turns.ofThis(tab.touch)).rejects.toMatchObject(REFUSED);
    expect(tab.done).toEqual([]);
  });

  it('is refused where the tab came back to its first disk by way of another', async () => {
    const tab = newTab();
    void before(tab, (disk) => disk.choose('B'));
    void before(tab, (disk) => disk.choose('A'));
    await expect(tab.turns.ofThis(tab.touch)).rejects.toMatchObject(REFUSED);
  });

  it('is bound to it before it waits for something else, and not when that has ended', async () => {
    const tab = newTab();
    const inItsTurn = tab.turns.bind();
    await before(tab, (disk) => disk.throwAway());
    await expect(inItsTurn(tab.touch)).rejects.toMatchObject(REFUSED);
    expect(tab.done).toEqual([]);
  });

  it('is done to it under a new name, too', async () => {
    const tab = newTab();
    void before(tab, (disk) => disk.rename('A2'));
    await tab.turns.ofThis(tab.touch);
    expect(tab.done).toEqual(['A2']);
  });

  it('is done where the same one is opened again after it was not open', async () => {
    const tab = newTab();
    void before(tab, (disk) => disk.choose('A'));
    await tab.turns.ofThis(tab.touch);
    expect(tab.done).toEqual(['A']);
  });
});

describe('what is asked before a visit has chosen its disk', () => {
  it('is meant for the one that it chooses, and for no later one', async () => {
    const disk = new DiskOfTab();
    const turns = new DiskTurns(new Turns({ stop: () => Promise.resolve(), start: () => undefined }), disk);
    const done: string[] = [];
    const first = turns.bind();
    await turns.ofAny(async () => disk.choose('chosen'));
    await first(async () => void done.push(disk.name));
    await turns.ofAny(async () => disk.choose('other'));
    await expect(first(async () => void done.push(disk.name))).rejects.toMatchObject(REFUSED);
    expect(done).toEqual(['chosen']);
  });
});
