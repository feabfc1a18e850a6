/**
 * The notices that the licences of bundled packages ask for. Bundles drop them: a minified package has no comments left,
 * and some never had any.
 *
 * A package's text is its own licence files; where these are missing or leave a part out, `scripts/licences/<package>.txt`
 * has the rest.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './stale.mjs';

const PACKAGE_FOLDER = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/;
/** What comes into a bundle through a generated module, which hides where it is from. */
const GENERATED_FROM = { 'src/kernels/generated/zstd-wasm.ts': 'node_modules/@bokuweb/zstd-wasm' };
const LICENCE_FILE = /^(licen[cs]e|copying|notice)/i;
const RULE = '='.repeat(80);

/**
 * The text for all packages that put bytes into the outputs of `metafiles` (esbuild's). Throws for one without a licence text.
 * @param root what the paths in the metafiles are relative to
 */
export function thirdPartyNotices(metafiles, root = ROOT) {
  const sections = bundledPackages(metafiles).map((folder) => `${RULE}\n${noticeOf(join(root, folder))}`);
  return ['The files in this folder contain parts of the following software.\n', ...sections].join('\n');
}

/** The folders of the packages, each once, by name. */
function bundledPackages(metafiles) {
  const folders = new Set();
  for (const { outputs } of metafiles) {
    for (const { inputs } of Object.values(outputs)) {
      for (const [path, { bytesInOutput }] of Object.entries(inputs)) {
        const folder = GENERATED_FROM[path] ?? PACKAGE_FOLDER.exec(path)?.[0];
        if (folder !== undefined && bytesInOutput > 0) folders.add(folder);
      }
    }
  }
  return [...folders].sort();
}

function noticeOf(folder) {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const files = readdirSync(folder)
    .filter((file) => LICENCE_FILE.test(file))
    .map((file) => join(folder, file));
  const supplement = join(ROOT, 'scripts/licences', `${name}.txt`);
  if (existsSync(supplement)) files.push(supplement);
  if (files.length === 0) {
    throw new Error(
      `${name} goes into a bundle and has no licence file: put its text into scripts/licences/${name}.txt`,
    );
  }
  const texts = files.map((file) => readFileSync(file, 'utf8').trim());
  return `${name} ${version} (licence: ${license})\n\n${texts.join('\n\n')}\n`;
}
