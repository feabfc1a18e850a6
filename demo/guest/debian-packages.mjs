/**
 * Debian packages, downloaded and unpacked into a folder of our own.
 *
 * apt gets its own state, cache, list of sources and configuration below that folder, so the machine's are only read:
 * its proxy and credentials stay in force, its mirror is taken over. Signatures are checked as always.
 *
 *   <folder>/apt/...                       lists and caches of the private apt
 *   <folder>/packages/<name>-<arch>/...    the files of a package, as `dpkg -x` lays them out
 *
 * A package folder appears by a rename, so one that exists is whole and is not downloaded again.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { GuestBuildError } from './build-error.mjs';
import { runCommand } from './run-command.mjs';
import { withTemporaryFolder } from './temporary-folder.mjs';

/** The tools and the guest's kernel are taken from this release on newer systems too: the last with an i386 kernel. */
const SUITE = 'bookworm';
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

export class DebianPackages {
  #folder;
  #configuration;
  #updated = false;

  /** @param {string} folder absolute path, made when needed */
  constructor(folder) {
    this.#folder = folder;
    this.#configuration = join(folder, 'apt', 'apt.conf');
  }

  /**
   * Makes sure that packages are there, unpacked.
   * @param {readonly string[]} names each `name`, or `name:architecture` for another than the host's
   * @returns {string[]} their folders, in the same order
   */
  fetch(names) {
    const missing = names.filter((name) => !existsSync(this.#packageFolder(name)));
    if (missing.length > 0) this.#download(missing);
    return names.map((name) => this.#packageFolder(name));
  }

  /**
   * The package that a metapackage stands for today.
   * @param {string} metapackage such as `linux-image-686:i386`
   * @param {RegExp} pattern what the dependency looks like
   * @returns {string} with the metapackage's architecture
   */
  resolve(metapackage, pattern) {
    this.#update();
    const output = runCommand('apt-cache', ['-c', this.#configuration, 'depends', metapackage]);
    for (const [, dependency] of output.matchAll(/^\s*Depends: (\S+)$/gm)) {
      const name = dependency.split(':')[0];
      if (pattern.test(name)) return name + metapackage.slice(metapackage.indexOf(':'));
    }
    throw new GuestBuildError(`Debian's ${metapackage} depends on no package like ${pattern}:\n${output}`);
  }

  /** Frees the space of an unpacked package of which everything needed has been taken. @param {string} name */
  remove(name) {
    rmSync(this.#packageFolder(name), { recursive: true, force: true });
  }

  /** @param {string} name */
  #packageFolder(name) {
    return join(this.#folder, 'packages', name.includes(':') ? name.replace(':', '-') : `${name}-host`);
  }

  /** @param {readonly string[]} names */
  #download(names) {
    this.#update();
    withTemporaryFolder(this.#folder, (downloads) => {
      runCommand('apt-get', ['-c', this.#configuration, '-qq', 'download', ...names], { cwd: downloads });
      const archives = readdirSync(downloads);
      for (const name of names) {
        const archive = archives.find((file) => file.startsWith(`${name.split(':')[0]}_`));
        if (!archive) throw new GuestBuildError(`apt-get downloaded no file for the package ${name}`);
        const unpacked = join(downloads, `unpacked-${name}`);
        runCommand('dpkg', ['-x', join(downloads, archive), unpacked]);
        mkdirSync(join(this.#folder, 'packages'), { recursive: true });
        renameSync(unpacked, this.#packageFolder(name));
      }
    });
  }

  #update() {
    if (this.#updated) return;
    this.#writeConfiguration(findMirror());
    runCommand('apt-get', ['-c', this.#configuration, '-qq', 'update']);
    this.#updated = true;
  }

  /** @param {string} mirror address of a Debian archive */
  #writeConfiguration(mirror) {
    const apt = join(this.#folder, 'apt');
    for (const folder of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(apt, folder), { recursive: true });
    const options = existsSync(KEYRING) ? `[signed-by=${KEYRING}] ` : '';
    // `main` alone: the security suite's index is often older or newer than its packages while a mirror is synchronized.
    writeFileSync(join(apt, 'sources.list'), `deb ${options}${mirror} ${SUITE} main\n`);
    writeFileSync(join(apt, 'status'), '');
    writeFileSync(
      this.#configuration,
      `Dir::State "${apt}";
Dir::State::Lists "${apt}/lists";
Dir::State::status "${apt}/status";
Dir::Cache "${apt}/cache";
Dir::Etc::sourcelist "${apt}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Architectures { "amd64"; "i386"; };
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Sandbox::User "";
`,
    );
  }
}

/**
 * The Debian mirror this machine uses. apt itself lists what `update` would load, so every way of writing down sources
 * is understood, and no list needs to have been loaded before.
 * @returns {string}
 */
function findMirror() {
  const output = runCommand('apt-get', ['--print-uris', 'update']);
  const addresses = [...output.matchAll(/^'([^']+)\/dists\/([^/']+)\/InRelease'/gm)];
  const inSuite = addresses.find(([, , suite]) => suite === SUITE);
  // A newer Debian names its own suite; its mirror has the older release as well.
  const ofDebian = addresses.find(([, address, suite]) => address.endsWith('/debian') && !suite.includes('-'));
  const found = inSuite ?? ofDebian;
  if (!found) {
    throw new GuestBuildError(
      `apt on this machine is set up with no mirror of Debian ${SUITE}: "apt-get --print-uris update" names none.\n` +
        `Add one in /etc/apt/sources.list.d (suite ${SUITE}, component main), then run this again.`,
    );
  }
  return found[1];
}
