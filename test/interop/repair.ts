/** Repairing one damaged image twice, by QEMU and by us, and comparing what came of it. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { expect } from 'vitest';
import { checkImage, checkVerdict, type CheckResult, type Repair } from '../../src/operations/check/check-image.js';
import { NodeFileStorage } from '../../src/node.js';
import { COMPRESSED, MIB, OTHER, OWN, SHARED, ZERO, type Damage } from './damages.js';
import { withOurs } from './our-image.js';
import { inTemporaryDirectory, qemuBytes, qemuCreate, qemuImg, qemuIo } from './qemu.js';
import { Qcow2Bytes } from '../support/qcow2-bytes.js';

/** What both tools say of an image, in QEMU's words. */
export interface Numbers {
  readonly verdict: number;
  readonly corruptions: number;
  readonly leaks: number;
  readonly checkErrors: number;
  /** What a repair has put right. */
  readonly fixed: readonly [corruptions: number, leaks: number];
  readonly statistics: readonly number[];
}

/** `qemu-img check`, whatever it finds. Null where it gave up without numbers. */
export function checkByQemu(path: string, repair?: Repair): Numbers | null {
  const flags = repair === undefined || repair === 'none' ? [] : ['-r', repair];
  const done = spawnSync('qemu-img', ['check', '-f', 'qcow2', '--output=json', ...flags, path], { encoding: 'utf8' });
  if (done.error) throw done.error;
  const start = done.stdout.indexOf('{');
  if (start < 0) return null;
  const json = JSON.parse(done.stdout.slice(start)) as Readonly<Record<string, number>>;
  const number = (name: string) => json[name] ?? 0;
  const statistics = ['total-clusters', 'allocated-clusters', 'fragmented-clusters', 'compressed-clusters'];
  return {
    verdict: done.status ?? -1,
    corruptions: number('corruptions'),
    leaks: number('leaks'),
    checkErrors: number('check-errors'),
    fixed: [number('corruptions-fixed'), number('leaks-fixed')],
    statistics: [...statistics, 'image-end-offset'].map(number),
  };
}

/** Our check, to its end. */
export function checkByUs(path: string, repair: Repair = 'none'): CheckResult {
  const storage = NodeFileStorage.open(path, { readOnly: repair === 'none' });
  try {
    const job = checkImage(storage, { repair });
    for (;;) {
      const { done, value } = job.next();
      if (done) return value;
    }
  } finally {
    storage.close();
  }
}

export function numbersOf(result: CheckResult): Numbers {
  return {
    verdict: checkVerdict(result),
    corruptions: result.corruptions,
    leaks: result.leaks,
    checkErrors: result.checkErrors,
    fixed: [result.corruptionsFixed, result.leaksFixed],
    statistics: [
      result.totalClusters,
      result.allocatedClusters,
      result.fragmentedClusters,
      result.compressedClusters,
      result.imageEndOffset,
    ],
  };
}

/** The sound image that damages are done to; see `damages.ts`. */
export function makeSound(
  path: string,
  { options = {}, snapshot = true, bitmap = false }: Omit<Damage, 'what' | 'damage'>,
): void {
  const dataFile = options['data_file'] === undefined ? {} : { data_file: `${path}.data` };
  qemuCreate(path, { size: 8 * MIB, options: { cluster_size: 4096, ...options, ...dataFile } });
  const compress = dataFile.data_file === undefined ? '-c' : '';
  if (bitmap) qemuImg('bitmap', '--add', '-g', '64k', path, 'changed');
  qemuIo(path, [
    `write -P 1 ${SHARED} 128k`,
    `write -P 2 ${OWN} 128k`,
    `write -P 3 ${OTHER} 128k`,
    `write ${compress} -P 4 ${COMPRESSED} 16k`,
    `write ${compress} -P 5 ${COMPRESSED + 65536} 16k`,
    `write -P 6 ${ZERO} 128k`,
    `write -z ${ZERO} 64k`,
  ]);
  if (snapshot) qemuImg('snapshot', '-c', 'before', path);
  qemuIo(path, [`write -P 7 ${OWN} 128k`, `write -P 8 ${ZERO + 65536} 128k`, `write -z ${ZERO} 64k`]);
}

export function damaged(sound: string, path: string, { damage }: Damage): void {
  const image = new Qcow2Bytes(readFileSync(sound));
  damage(image);
  writeFileSync(path, image.bytes);
}

/** Both repair a copy of `path`; what is left wrong is the same, and so is all that a guest can read. */
async function expectSameRepair(path: string, growsFile: boolean): Promise<void> {
  const [theirs, ours] = [`${path}.theirs`, `${path}.ours`];
  copyFileSync(path, theirs);
  copyFileSync(path, ours);
  const byQemu = checkByQemu(theirs, 'all');
  const byUs = numbersOf(checkByUs(ours, 'all'));
  if (byQemu === null) {
    expect(byUs.verdict, 'our verdict, where QEMU gives up').toBe(1);
    expect(Buffer.compare(readFileSync(ours), readFileSync(path)), 'the file, where we give up').toBe(0);
    return;
  }
  expect(comparable(byUs, growsFile), 'our repair').toEqual(comparable(byQemu, false));
  expectAgreement(ours, byQemu.verdict);
  if (byQemu.verdict === 0) await expectSameContent(theirs, ours);
  else expectNoDifference(theirs, ours);
}

/** Without the end of the image: a new refcount structure may lie elsewhere than QEMU's. */
function comparable(numbers: Numbers, growsFile: boolean): Numbers {
  const [corruptions, leaks] = numbers.fixed;
  const fixed = [corruptions + (growsFile ? 1 : 0), leaks] as const;
  return { ...numbers, fixed, statistics: numbers.statistics.slice(0, -1) };
}

function expectSame(byUs: Numbers, byQemu: Numbers | null): void {
  if (byQemu === null) expect(byUs.verdict, 'our verdict, where QEMU gives up').toBe(1);
  else expect(byUs, 'our numbers').toEqual(byQemu);
}

/** Where QEMU's repair is no model: ours comes to `verdict`, QEMU agrees, and what the sound image held is there. */
async function expectRepair(path: string, sound: string, otherwise: Damage['otherwise'] & object): Promise<void> {
  const { verdict, losesData = false } = otherwise;
  const ours = `${path}.ours`;
  copyFileSync(path, ours);
  expect(checkVerdict(checkByUs(ours, 'all'))).toBe(verdict);
  expectAgreement(ours, verdict);
  if (verdict === 0 && !losesData) await expectSameContent(sound, ours);
}

function expectAgreement(path: string, verdict: number): void {
  const byQemu = checkByQemu(path);
  expect(byQemu?.verdict, 'the verdict of QEMU after our repair').toBe(verdict);
  expect(numbersOf(checkByUs(path)), 'our check after our repair').toEqual(byQemu);
}

/** What is still damaged may be unreadable; but nothing that can be read differs. */
function expectNoDifference(theirs: string, ours: string): void {
  const done = spawnSync('qemu-img', ['compare', '-f', 'qcow2', '-F', 'qcow2', theirs, ours], { encoding: 'utf8' });
  if (done.error) throw done.error;
  expect(done.status, done.stdout).not.toBe(1);
}

async function expectSameContent(model: string, ours: string): Promise<void> {
  const content = qemuBytes(model);
  expect(Buffer.compare(qemuBytes(ours), content), 'the disk as QEMU reads it').toBe(0);
  const read = await withOurs(ours, (image) => {
    const bytes = new Uint8Array(image.size);
    image.read(0, bytes);
    return bytes;
  });
  expect(Buffer.compare(read, content), 'the disk as we read it').toBe(0);
  const snapshots = qemuImg('snapshot', '-l', model);
  expect(qemuImg('snapshot', '-l', ours)).toBe(snapshots);
  if (!snapshots.includes('before')) return;
  const before = { snapshot: 'before' };
  expect(Buffer.compare(qemuBytes(ours, before), qemuBytes(model, before)), 'the snapshot').toBe(0);
}

/** One row of the table of damages: the check says the same as QEMU's, and so does the repair. */
export function expectSameCheckAndRepair(damage: Damage): Promise<void> {
  return inTemporaryDirectory(async (path) => {
    makeSound(path('sound'), damage);
    damaged(path('sound'), path('image'), damage);
    expectSame(numbersOf(checkByUs(path('image'))), checkByQemu(path('image')));
    if (damage.otherwise === undefined) await expectSameRepair(path('image'), damage.growsFile ?? false);
    else await expectRepair(path('image'), path('sound'), damage.otherwise);
  });
}

/** The same, with leaks alone repaired. */
export function expectSameRepairOfLeaks(damage: Damage): Promise<void> {
  return inTemporaryDirectory((path) => {
    makeSound(path('sound'), damage);
    damaged(path('sound'), path('theirs'), damage);
    copyFileSync(path('theirs'), path('ours'));
    expectSame(numbersOf(checkByUs(path('ours'), 'leaks')), checkByQemu(path('theirs'), 'leaks'));
    expectSame(numbersOf(checkByUs(path('ours'))), checkByQemu(path('theirs')));
    expect(checkByQemu(path('ours'))).toEqual(checkByQemu(path('theirs')));
  });
}
