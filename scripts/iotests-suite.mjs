/**
 * QEMU's own test suite, which is no part of this repository: it comes from Debian's source package, into .tmp/iotests/.
 *
 * apt gets a set-up of its own there, with the system's sources as sources of source packages; nothing of the system is
 * changed, and no rights are needed. Of the package the suite and its Python modules are unpacked, with Debian's patches
 * to them, which hold what QEMU has mended since.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './stale.mjs';

const FOLDER = join(ROOT, '.tmp/iotests');
const TREE = join(FOLDER, 'tree');
/** The tests are compared with the output of this version of QEMU. */
const VERSION = '7.2';
const PARTS = ['tests/qemu-iotests', 'python'];
const TOOLS = { 'apt-get': 'apt', tar: 'tar', xz: 'xz-utils', git: 'git' };

/** The suite can't be had here; the message says what is missing. */
export class NoSuite extends Error {}

/** The top of a source tree of QEMU with the suite in it: `given`, or Debian's. Throws `NoSuite`. */
export function provideSuite(given) {
  if (given !== undefined) {
    if (existsSync(join(given, PARTS[0], 'common.rc'))) return given;
    throw new NoSuite(`there is no ${PARTS[0]}/common.rc in ${given}`);
  }
  if (!existsSync(TREE)) fetchSuite();
  return TREE;
}

function fetchSuite() {
  requireTools();
  const apt = aptSetUp();
  console.log(`fetching QEMU's test suite with apt-get source into ${FOLDER}`);
  run('apt-get', ['update', '-qq', '--error-on=any'], { env: apt });
  const downloads = emptyFolder('download');
  run('apt-get', ['source', '-qq', '--download-only', 'qemu'], { env: apt, cwd: downloads });
  const tree = emptyFolder('tree.new');
  const patches = emptyFolder('patches');
  const archive = archiveIn(downloads);
  // The top folder has the version in its name. A star does not stand for a slash, so each pattern is one folder.
  const wanted = PARTS.map((part) => `*/${part}`);
  run('tar', ['-xf', archive('orig'), '--strip-components=1', '--wildcards', '--no-wildcards-match-slash', ...wanted], {
    cwd: tree,
  });
  run('tar', ['-xf', archive('debian'), 'debian/patches'], { cwd: patches });
  applyPatches(join(patches, 'debian/patches'), tree);
  rmSync(downloads, { recursive: true });
  rmSync(patches, { recursive: true });
  // Last, so that a tree that is there is whole.
  renameSync(tree, TREE);
}

function requireTools() {
  const missing = Object.keys(TOOLS).filter((tool) => spawnSync(tool, ['--version']).error !== undefined);
  if (missing.length === 0) return;
  const packages = missing.map((tool) => TOOLS[tool]);
  throw new NoSuite(`missing: ${missing.join(', ')} (Debian: apt-get install ${packages.join(' ')})`);
}

function emptyFolder(name) {
  const path = join(FOLDER, name);
  rmSync(path, { recursive: true, force: true });
  mkdirSync(path, { recursive: true });
  return path;
}

/** The environment in which apt has its lists and caches below `FOLDER`, and source packages among its sources. */
function aptSetUp() {
  const sources = emptyFolder('apt/sources');
  emptyFolder('apt/lists/partial');
  emptyFolder('apt/cache/archives/partial');
  const stanzas = debianSources();
  if (stanzas.length === 0) throw new NoSuite('apt has no sources of Debian here; --suite names a source tree of QEMU');
  writeFileSync(join(sources, 'debian.sources'), stanzas.join('\n\n'));
  const configuration = join(FOLDER, 'apt/apt.conf');
  const lines = [
    'Dir::Etc::SourceList "/dev/null";',
    `Dir::Etc::SourceParts "${sources}";`,
    `Dir::State::Lists "${join(FOLDER, 'apt/lists')}";`,
    `Dir::Cache "${join(FOLDER, 'apt/cache')}";`,
    // Else apt gives up root's rights, and then can't write here.
    'APT::Sandbox::User "";',
  ];
  writeFileSync(configuration, lines.join('\n'));
  return { ...process.env, APT_CONFIG: configuration, LC_ALL: 'C' };
}

/** The system's sources that offer the suites of this Debian, asked for source packages. */
function debianSources() {
  const codename = /^VERSION_CODENAME=(\w+)/m.exec(readIfThere('/etc/os-release'))?.[1];
  if (codename === undefined) return [];
  const ofDebian = new RegExp(String.raw`^Suites:(?:.*\s)?${codename}(-updates|-security)?\s*$`, 'm');
  const folder = '/etc/apt/sources.list.d';
  const files = existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
  const stanzas = files
    .filter((path) => path.endsWith('.sources'))
    .flatMap((path) => readIfThere(path).split(/\n\s*\n/));
  const lines = ['/etc/apt/sources.list', ...files.filter((path) => path.endsWith('.list'))]
    .flatMap((path) => readIfThere(path).split('\n'))
    .map((line) => stanzaOf(line));
  return [...stanzas, ...lines]
    .filter((stanza) => ofDebian.test(stanza))
    .map((stanza) => stanza.replace(/^Types:.*$/m, 'Types: deb-src').trim());
}

/** A line of a sources.list in the newer form; an empty text for any other line. */
function stanzaOf(line) {
  const match = /^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.+)$/.exec(line);
  if (match === null) return '';
  const [, options = '', address, suite, components] = match;
  const signer = /signed-by=(\S+)/.exec(options)?.[1];
  const signed = signer === undefined ? [] : [`Signed-By: ${signer}`];
  return ['Types: deb', `URIs: ${address}`, `Suites: ${suite}`, `Components: ${components}`, ...signed].join('\n');
}

function readIfThere(path) {
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

/** Finds the two archives of the package, whose names begin with its version. */
function archiveIn(folder) {
  const names = readdirSync(folder);
  const found = names.find((name) => name.endsWith('.dsc')) ?? 'no source package';
  if (!found.startsWith(`qemu_${VERSION}+`)) {
    throw new NoSuite(`Debian has ${found} here, and the tests are those of ${VERSION}; --suite names a source tree`);
  }
  return (kind) => join(folder, names.find((name) => new RegExp(String.raw`\.${kind}\.tar\.\w+$`).test(name)) ?? kind);
}

/** Applies what Debian's patches change in the parts that were unpacked. Of the rest git could not even read all. */
function applyPatches(folder, tree) {
  const series = readFileSync(join(folder, 'series'), 'utf8').split('\n');
  const names = series.map((line) => line.replace(/#.*/, '').trim()).filter((name) => name !== '');
  // Inside of a repository git would take the paths for the repository's.
  const env = { ...process.env, GIT_CEILING_DIRECTORIES: FOLDER };
  for (const name of names) {
    const files = readFileSync(join(folder, name), 'latin1').split(/^(?=diff --git )/m);
    const ours = files.filter((file) => PARTS.some((part) => file.startsWith(`diff --git a/${part}/`)));
    const input = Buffer.from(ours.join(''), 'latin1');
    if (input.length > 0) run('git', ['apply', '--whitespace=nowarn'], { cwd: tree, env, input });
  }
}

function run(program, options, { env, cwd, input } = {}) {
  const { status, stderr, error } = spawnSync(program, options, { env, cwd, input, encoding: 'utf8' });
  if (error === undefined && status === 0) return;
  throw new NoSuite(`${program} ${options.join(' ')}: ${error?.message ?? stderr.trim().slice(-500)}`);
}
