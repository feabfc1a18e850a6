/**
 * Crashes in the middle of operations on whole images: resize, amend, change of the backing file, emptying, reopen.
 *
 * 1. A check of every crash state, ours and (for some) qemu-img's, finds leaks only; with the dirty bit set, after a repair.
 * 2. The image opens for writing, and its disk is as before the operation or as after it; while it is emptied, each part is
 *    one of both. A raw data file reads as the disk does.
 * 3. Then the operation can be made again and comes to its end, or the guest goes on; that leaves leaks at most, too.
 *
 * `CRASH_STATES` sets how many states in all, `TEST_SEED` the seed.
 */
import { describe, expect, it } from 'vitest';
import { MemoryStorage, type Qcow2Image } from '../../src/index.js';
import { readWhole } from '../support/disk-actions.js';
import { expectSameBytes } from '../support/model-disk.js';
import { seedOfThisRun, withSeed, type SeededRandom } from '../support/seeded-random.js';
import {
  expectEither,
  expectLeaksOnly,
  expectLeaksOnlyByQemu,
  isDirty,
  JUDGED_BY_QEMU,
  putForQemu,
  qemuCheckOf,
} from './crash-judges.js';
import { expectKeySlots, openShape, prepareImage } from './operation-images.js';
import { OPERATION_SCENARIOS, type OperationScenario } from './operation-scenarios.js';
import { crashStatesOfFiles, RecordedFiles, type FilesState } from './recorded-files.js';

const STATES = Number(process.env['CRASH_STATES'] ?? 500);

interface Recorded {
  readonly files: RecordedFiles;
  readonly before: Uint8Array;
  readonly after: Uint8Array;
}

function record(scenario: OperationScenario, start: readonly Uint8Array[]): Recorded {
  const files = new RecordedFiles(start);
  const image = openShape(scenario, files.storages);
  const before = readWhole(image);
  scenario.operation(image);
  const after = readWhole(image);
  image.close();
  return { files, before, after };
}

interface Judgement {
  readonly state: FilesState;
  /** Counted from 0. */
  readonly number: number;
}

function judge(scenario: OperationScenario, recorded: Recorded, { state, number }: Judgement): void {
  const byQemu = number % JUDGED_BY_QEMU === 0;
  if (byQemu) expectLeaksOnlyByQemu(state.files, 'of the state itself');
  if (!isDirty(state.files[0]!)) expectLeaksOnly(state.files[0]!, 'of the state itself');
  const files = state.files.map((bytes) => new MemoryStorage(bytes));
  expectKeySlots(scenario, files[0]!);
  const image = openShape(scenario, files);
  const disk = readWhole(image);
  expectEither(disk, recorded, scenario.mixed ?? false);
  if (scenario.dataFile === 'raw' && !scenario.mixed) {
    expectSameBytes(files[1]!.toBytes().subarray(0, disk.length), disk, 'the raw data file against the disk');
  }
  if (number % 2 === 0) {
    scenario.operation(image);
    expectSameBytes(readWhole(image), recorded.after, 'the disk after the operation was made again');
  }
  goOn(image);
  image.close();
  const left = files.map((file) => file.toBytes());
  expectKeySlots(scenario, files[0]!);
  expectLeaksOnly(left[0]!, 'after it was opened, changed and closed');
  if (byQemu) expectLeaksOnlyByQemu(left, 'after it was opened, changed and closed');
}

/** The guest writes where operations work, at the end of the disk, and reads it back. */
function goOn(image: Qcow2Image): void {
  const expected = readWhole(image);
  const mark = new Uint8Array(5000).fill(0x77);
  image.write(expected.length - 20_001, mark);
  expected.set(mark, expected.length - 20_001);
  image.flush();
  expectSameBytes(readWhole(image), expected, 'the disk after a write');
}

async function crash(scenario: OperationScenario, states: number, random: SeededRandom): Promise<void> {
  const recorded = record(scenario, await prepareImage(scenario));
  let number = 0;
  for (const state of crashStatesOfFiles(recorded.files, states, random)) {
    try {
      judge(scenario, recorded, { state, number: number++ });
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      const place = `a crash after event ${state.at} of ${recorded.files.length}, keeping ${state.keeping}`;
      throw new Error(`${place}: ${reason}`, { cause });
    }
  }
}

describe('after a crash in an operation the image opens, with its disk as before or after it', () => {
  const share = Math.ceil(STATES / OPERATION_SCENARIOS.length);
  OPERATION_SCENARIOS.forEach((scenario, index) => {
    it(
      scenario.title,
      () => withSeed(scenario.title, seedOfThisRun(index + 200), (random) => crash(scenario, share, random)),
      30_000 + 200 * share,
    );
  });

  it('and the start of each scenario is a clean image', async () => {
    for (const scenario of OPERATION_SCENARIOS) {
      const report = qemuCheckOf(putForQemu(await prepareImage(scenario)));
      expect(report, scenario.title).toMatchObject({ leaks: 0, corruptions: 0, checkErrors: 0 });
    }
  });
});
