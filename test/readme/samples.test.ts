/** The samples of the README and the guide, compiled as a strict TypeScript user would compile them. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

// Inside the repository, so that v86's own types are found.
mkdirSync(join(ROOT, '.tmp'), { recursive: true });
const folder = mkdtempSync(join(ROOT, '.tmp/readme-'));

afterAll(() => rmSync(folder, { recursive: true }));

/** The TypeScript blocks. One that uses a disk it does not open goes on where the one before ended. */
function samples(): string[] {
  const text = ['README.md', 'docs/GUIDE.md'].map((name) => readFileSync(join(ROOT, name), 'utf8')).join('\n');
  const found: string[] = [];
  for (const [, code = ''] of text.matchAll(/^```ts\n([^]*?)^```$/gm)) {
    const goesOn = /\bdisk\b/.test(code.replaceAll(/'[^']*'/g, '')) && !/const disk\b/.test(code);
    found.push(goesOn ? `${found.at(-1) ?? ''}\n${code}` : code);
  }
  return found;
}

function compile(): { status: number | null; stdout: string } {
  const configuration = {
    extends: '../../tsconfig.json',
    compilerOptions: {
      noUnusedLocals: false,
      types: ['node'],
      paths: { 'qcow2-wasm': ['../../src/index.ts'], 'qcow2-wasm/*': ['../../src/*.ts'] },
    },
    include: ['*.ts', '../../src/worker/virtual-worker-source.d.ts'],
  };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(configuration));
  samples().forEach((code, index) => writeFileSync(join(folder, `sample-${index + 1}.ts`), code));
  const compiler = join(ROOT, 'node_modules/typescript/bin/tsc');
  const { status, stdout } = spawnSync(process.execPath, [compiler, '-p', folder], { encoding: 'utf8' });
  return { status, stdout };
}

describe('the samples of the README and the guide', () => {
  it('compile in strict mode, without casts', () => {
    expect(samples().length).toBeGreaterThanOrEqual(4);
    expect(samples().join('')).toContain("from 'v86'");
    expect(compile()).toEqual({ status: 0, stdout: '' });
  });
});
