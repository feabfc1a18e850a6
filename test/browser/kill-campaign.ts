/**
 * The browser is killed while the demo saves, loads or deletes a snapshot, again and again on one profile. What must hold
 * after each kill:
 *
 * 1. `qemu-img check` finds no corruption in the files as the kill left them, and the guest's ext4 on the disk is clean once
 *    its journal is replayed. Leaks are allowed.
 * 2. A snapshot whose saving had completed is there, and one whose deletion had completed is not.
 * 3. The snapshot under way is there whole or not at all. One that replaces another of its name: the new one, the old one, or both.
 * 4. Every snapshot that is there loads, and memory, page cache and disk are those of the moment it was taken.
 *
 * The guest boots once; after a kill the page resumes. The journal of what must be there is kept here, out of the browser.
 */
import { mkdtemp, open, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SeededRandom } from '../support/seeded-random.js';
import { checkOverlay, guestFileSystem, snapshotsOf } from './guest-image.js';
import { GuestPage } from './guest-page.js';
import { launchBrowser, serveFolder, type FolderServer, type TestBrowser } from './harness.js';

export interface CampaignOptions {
  readonly kills: number;
  readonly random: SeededRandom;
  /** Called with a line for each kill. */
  readonly log: (line: string) => void;
}

export interface CampaignReport {
  readonly kills: number;
  /** Kills before the operation had completed. */
  readonly underWay: number;
  /** Kills after which the snapshot under way was there, or gone, as if it had completed. */
  readonly tookEffect: number;
  readonly snapshotsLoaded: number;
}

/** What is done when the kill comes. `token` is what the guest holds at that moment. */
type Operation =
  | { readonly kind: 'save'; readonly name: string; readonly token: string }
  | { readonly kind: 'load'; readonly name: string }
  | { readonly kind: 'delete'; readonly name: string };

/** Never replaced nor deleted, so that there is always one to resume from. */
const ANCHOR = 'anchor';
const NAMES = ['one', 'two', 'three'] as const;

/** Kills come until this much later than the operation took before, so that some come after its end. */
const LATEST_KILL = 1.15;

/** Of 64 KiB, in the memory of the guest: less than this many. */
const NOISE_PIECES = 128;

/** The image that the demo's disk stands on, as the server has it. */
const SERVED_BASE = 'demo/guest/linux.qcow2';

const QCOW2_MAGIC = 0x5146_49fb;

export class KillCampaign {
  #guest!: GuestPage;
  /** What must be there, by name: the token that the guest held. */
  #tokens = new Map<string, string>();
  /** Milliseconds that an operation took when it was let be. */
  readonly #durations = { save: 0, load: 0, delete: 0 };
  #tokensMade = 0;
  #loaded = 0;

  private constructor(
    private readonly server: FolderServer,
    private readonly browser: TestBrowser,
    private readonly folder: string,
    private readonly options: CampaignOptions,
  ) {}

  static async run(options: CampaignOptions): Promise<CampaignReport> {
    const folder = await mkdtemp(join(tmpdir(), 'qcow2-wasm-kills-'));
    const server = await serveFolder('demo/dist', { '/guest': 'demo/guest' });
    const browser = await launchBrowser();
    try {
      return await new KillCampaign(server, browser, folder, options).#run();
    } finally {
      await browser.close();
      await server.close();
      await rm(folder, { recursive: true, force: true });
    }
  }

  async #run(): Promise<CampaignReport> {
    this.#guest = await GuestPage.open(this.browser, `${this.server.url}/`);
    await this.#guest.booted();
    await this.#letBe();
    const { kills } = this.options;
    let [underWay, tookEffect] = [0, 0];
    for (let kill = 1; kill <= kills; kill++) {
      const operation = await this.#nextOperation();
      const { delay, completed } = await this.#killDuring(operation);
      await this.#checkFiles();
      const effect = await this.#judge(operation, completed);
      if (!completed) underWay++;
      if (!completed && effect) tookEffect++;
      const when = completed ? 'after its end' : `under way, ${effect ? 'took effect' : 'left no trace'}`;
      const what = `${operation.kind} "${operation.name}" at ${delay} of about ${this.#durations[operation.kind]} ms`;
      this.options.log(`${kill}/${kills}: ${what}: ${when}; ${this.#tokens.size} snapshots whole`);
    }
    return { kills, underWay, tookEffect, snapshotsLoaded: this.#loaded };
  }

  /** Each operation once without a kill: how long they take, and something to begin with. */
  async #letBe(): Promise<void> {
    for (const name of [ANCHOR, ...NAMES.slice(0, 2)]) {
      const token = await this.#putToken();
      await this.#timed('save', () => this.#guest.save(name));
      this.#tokens.set(name, token);
    }
    await this.#timed('load', () => this.#guest.load(ANCHOR));
    await this.#timed('delete', () => this.#guest.delete(NAMES[1]));
    this.#tokens.delete(NAMES[1]);
  }

  async #timed(kind: Operation['kind'], run: () => Promise<unknown>): Promise<void> {
    const startedAt = performance.now();
    await run();
    this.#durations[kind] = Math.round(performance.now() - startedAt);
  }

  /** A token that nothing held before: in a variable of the shell, in memory as a file, on the disk or only in the page cache. */
  async #putToken(): Promise<string> {
    const token = `t${++this.#tokensMade}`;
    const { random } = this.options;
    // Memory that differs from the last snapshot's, so that there is something to write when the kill comes.
    await this.#guest.run(`dd if=/dev/urandom of=/tmp/noise bs=64k count=${random.below(NOISE_PIECES)} 2>/dev/null`);
    const sync = random.oneIn(2) ? 'sync' : 'true';
    await this.#guest.run(`token=${token}; echo ${token} > /tmp/token; echo ${token} > /root/token; ${sync}`);
    return token;
  }

  async #nextOperation(): Promise<Operation> {
    const { random } = this.options;
    const deletable = NAMES.filter((name) => this.#tokens.has(name));
    const kind = random.pick(['save', 'save', 'load', 'delete'] as const);
    if (kind === 'load') return { kind, name: random.pick([ANCHOR, ...deletable]) };
    if (kind === 'delete' && deletable.length > 0) return { kind, name: random.pick(deletable) };
    return { kind: 'save', name: random.pick(NAMES), token: await this.#putToken() };
  }

  async #killDuring(operation: Operation): Promise<{ delay: number; completed: boolean }> {
    const { kind } = operation;
    const delay = this.options.random.below(Math.ceil(this.#durations[kind] * LATEST_KILL));
    let completed = false;
    let killed = false;
    const done = this.#timed(kind, () => this.#carryOut(operation)).then(
      () => {
        completed = true;
      },
      (error: unknown) => {
        // What the kill did to the page is no failure of the operation.
        if (!killed) throw error;
      },
    );
    await Promise.race([done, milliseconds(delay)]);
    // One that was quicker than the kill is killed at the same point of time all the same: right after its end.
    const wasCompleted = completed;
    killed = true;
    await this.browser.kill();
    await done;
    return { delay, completed: wasCompleted };
  }

  #carryOut(operation: Operation): Promise<unknown> {
    if (operation.kind === 'save') return this.#guest.save(operation.name);
    return operation.kind === 'load' ? this.#guest.load(operation.name) : this.#guest.delete(operation.name);
  }

  /** Rule 1, before any page has opened the disk again. */
  async #checkFiles(): Promise<void> {
    const linked = await mkdtemp(join(this.folder, 'files-'));
    const disk = join(linked, 'disk');
    for (const path of await this.browser.opfsFiles()) {
      const backing = await backingOfQcow2(path);
      if (backing === null) continue;
      await symlink(path, disk);
      // The disk stands on the served image. In the browser a cache of its chunks stands for it, which QEMU can't read.
      await symlink(join(process.cwd(), SERVED_BASE), join(linked, backing));
    }
    const { errors } = checkOverlay(disk);
    if (errors > 0) throw new Error(`qemu-img check finds ${errors} errors after the kill`);
    for (const { name, vmStateBytes } of snapshotsOf(disk)) {
      if (vmStateBytes === 0) throw new Error(`snapshot "${name}" has no machine state in the file`);
    }
    await guestFileSystem({ image: disk, folder: linked });
    await rm(linked, { recursive: true });
  }

  /** Rules 2 to 4. Returns whether the operation took effect; the journal is what holds from here on. */
  async #judge(operation: Operation, completed: boolean): Promise<boolean> {
    await this.browser.relaunch();
    this.#guest = await GuestPage.open(this.browser, `${this.server.url}/`);
    await this.#guest.whenState('booting');
    const listed = await this.#guest.snapshots();
    const found = new Map<string, string[]>();
    for (const { id, name } of listed) {
      await this.#guest.load(id);
      this.#loaded++;
      found.set(name, [...(found.get(name) ?? []), await this.#tokenHeld(name)]);
    }
    const { before, after } = this.#expected(operation);
    const names = new Set([...before.keys(), ...after.keys(), ...found.keys()]);
    let effect = operation.kind === 'load' ? completed : true;
    for (const name of names) {
      const tokens = found.get(name) ?? [];
      const [old, fresh] = [before.get(name), after.get(name)];
      const allowed = completed ? [[fresh]] : [[old], [fresh], [old, fresh]];
      const isAllowed = allowed.some((some) =>
        sameTokens(
          tokens,
          some.filter((token) => token !== undefined),
        ),
      );
      if (!isAllowed)
        throw new Error(`"${name}" holds [${tokens}] after ${operation.kind}; was ${old}, to be ${fresh}`);
      if (old !== fresh && !sameTokens(tokens, fresh === undefined ? [] : [fresh])) effect = false;
    }
    await this.#settle(found, listed);
    return effect;
  }

  #expected(operation: Operation): { before: Map<string, string>; after: Map<string, string> } {
    const after = new Map(this.#tokens);
    if (operation.kind === 'save') after.set(operation.name, operation.token);
    if (operation.kind === 'delete') after.delete(operation.name);
    return { before: this.#tokens, after };
  }

  /** Rule 4, of the snapshot that was just loaded. */
  async #tokenHeld(name: string): Promise<string> {
    const held = await this.#guest.run(
      'echo $token $(cat /tmp/token) $(cat /root/token) $(sync; echo 3 > /proc/sys/vm/drop_caches; cat /root/token)',
    );
    const [token = '', ...others] = held.split(' ');
    if (token === '' || others.length !== 3 || others.some((other) => other !== token)) {
      throw new Error(`the moments of memory, page cache and disk of "${name}" differ: ${held}`);
    }
    return token;
  }

  /** What is there is what must be there from now on; of two with one name, the older goes. */
  async #settle(found: ReadonlyMap<string, string[]>, listed: readonly { id: string; name: string }[]): Promise<void> {
    for (const [name, tokens] of found) {
      if (tokens.length > 1) await this.#guest.delete(listed.find((snapshot) => snapshot.name === name)!.id);
    }
    this.#tokens = new Map([...found].map(([name, tokens]) => [name, tokens.at(-1)!]));
  }
}

function sameTokens(one: readonly string[], other: readonly (string | undefined)[]): boolean {
  return one.length === other.length && one.every((token, index) => token === other[index]);
}

function milliseconds(count: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, count));
}

/** The name of the backing file; null for what is no qcow2 or stands alone. */
async function backingOfQcow2(path: string): Promise<string | null> {
  const file = await open(path);
  try {
    const bytes = Buffer.alloc(4096);
    await file.read(bytes, 0, bytes.length, 0);
    if (bytes.readUInt32BE(0) !== QCOW2_MAGIC) return null;
    const [offset, length] = [Number(bytes.readBigUInt64BE(8)), bytes.readUInt32BE(16)];
    return offset === 0 ? null : bytes.toString('utf8', offset, offset + length);
  } finally {
    await file.close();
  }
}
