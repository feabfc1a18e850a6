/** The package as `npm pack` makes it, unpacked where a project would have it installed. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from '../../scripts/build.mjs';

export const ROOT = fileURLToPath(new URL('../..', import.meta.url));

export interface Packed {
  /** A fresh project: a folder with `node_modules`, in which the package and v86 are installed. */
  readonly project: string;
  /** The package's own folder in it. */
  readonly folder: string;
  readonly tarball: Buffer;
  /** Paths in the package. */
  readonly files: readonly string[];
}

/** The project is inside the repository, so that bundlers find themselves; the caller removes it. */
export async function packIntoProject(): Promise<Packed> {
  await build();
  mkdirSync(join(ROOT, '.tmp'), { recursive: true });
  const project = mkdtempSync(join(ROOT, '.tmp/package-'));
  const options = ['pack', '--ignore-scripts', '--json', '--pack-destination', project];
  const [report] = JSON.parse(execFileSync('npm', options, { cwd: ROOT, encoding: 'utf8' })) as [
    { filename: string; files: { path: string }[] },
  ];
  const tarball = join(project, report.filename);
  const folder = join(project, 'node_modules/qcow2-wasm');
  mkdirSync(folder, { recursive: true });
  execFileSync('tar', ['-xzf', tarball, '--strip-components=1', '-C', folder]);
  symlinkSync(join(ROOT, 'node_modules/v86'), join(project, 'node_modules/v86'));
  return { project, folder, tarball: readFileSync(tarball), files: report.files.map(({ path }) => path) };
}
