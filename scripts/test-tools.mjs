/**
 * The Debian packages that the tests need: QEMU's tools to compare with, Chromium, the tools that look into ext4, and what unpacks
 * QEMU's own tests. As root on Debian they are installed; elsewhere what is missing is said, and how to get it. A test is never skipped for want of one.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

const PACKAGES = [
  { name: 'qemu-utils', tools: ['qemu-img', 'qemu-io'], projects: ['interop', 'browser'] },
  { name: 'xz-utils', tools: ['xz'], projects: ['interop'] },
  { name: 'e2fsprogs', tools: ['debugfs', 'e2fsck'], projects: ['interop', 'browser'] },
  { name: 'chromium', tools: ['chromium'], projects: ['browser'] },
];

/** Folders of tools for the administrator, which are often not on the path. */
const ADMINISTRATOR_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** Makes the tools of these projects available. Returns false after saying what is missing. */
export function provideTools(projects) {
  process.env.PATH = [process.env.PATH, ...ADMINISTRATOR_FOLDERS].join(delimiter);
  const needed = PACKAGES.filter((item) => item.projects.some((project) => projects.includes(project)));
  if (missingTools(needed).length === 0) return true;
  const packages = needed.filter((item) => missingTools([item]).length > 0).map(({ name }) => name);
  console.log(`missing for the tests: ${missingTools(needed).join(', ')} (Debian: ${packages.join(' ')})`);
  if (process.getuid?.() === 0 && isDebian()) install(packages);
  const missing = missingTools(needed);
  if (missing.length === 0) return true;
  console.error(`The tests can't run without: ${missing.join(', ')}. On Debian, as root:`);
  console.error(`  apt-get update && apt-get install -y --no-install-recommends ${packages.join(' ')}`);
  return false;
}

function missingTools(packages) {
  return packages.flatMap(({ tools }) => tools).filter((tool) => !isOnPath(tool));
}

function isOnPath(tool) {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => {
    try {
      accessSync(join(folder, tool), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function isDebian() {
  try {
    return /^ID(_LIKE)?=.*\bdebian\b/m.test(readFileSync('/etc/os-release', 'utf8'));
  } catch {
    return false;
  }
}

function install(packages) {
  const commands = [['update'], ['install', '-y', '--no-install-recommends', ...packages]];
  for (const options of commands) {
    console.log(`apt-get ${options.join(' ')}`);
    const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    if (spawnSync('apt-get', options, { stdio: 'inherit', env: environment }).status !== 0) return;
  }
}
