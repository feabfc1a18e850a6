/**
 * The WASM kernels against their TypeScript twins, on what the engine asks of them: tables and refcount blocks of 64 KiB.
 */
import { referenceKernels, SCRATCH_BYTES, wasmKernels, type Kernels } from '../src/kernels/index.js';
import { compare, markdownTable } from './compare.js';

const CLUSTER_BYTES = 0x10000;
const ENTRIES = CLUSTER_BYTES / 8;
const FIRST = SCRATCH_BYTES;
const SECOND = SCRATCH_BYTES + CLUSTER_BYTES;

interface Workload {
  readonly name: string;
  readonly prepare: (kernels: Kernels) => void;
  readonly run: (kernels: Kernels) => unknown;
}

/** Results are kept here, so that no call can be optimised away. */
const kept: unknown[] = [];

export function bench(): string {
  const shape = { slotBytes: CLUSTER_BYTES, slots: 2 };
  const implementations = [referenceKernels(shape), wasmKernels(shape)];
  const rows = [...tables(), ...refcounts()].map(({ name, prepare, run }) => {
    implementations.forEach(prepare);
    const timings = compare(
      implementations.map((kernels) => ({
        name: kernels.name,
        run: () => {
          kept[0] = run(kernels);
        },
      })),
    );
    const [reference, wasm] = timings;
    return [
      name,
      duration(reference?.microseconds),
      duration(wasm?.microseconds),
      `${(wasm?.ratio ?? 0).toFixed(1)} x`,
    ];
  });
  return markdownTable([['kernel', 'TypeScript, us', 'WASM, us', 'ratio'], ...rows]);
}

function duration(microseconds = 0): string {
  return microseconds.toPrecision(3);
}

function tables(): Workload[] {
  const contiguous = (kernels: Kernels) => kernels.l2FillRun(FIRST, 0, ENTRIES, 0x10_0000, 0x8000_0000, CLUSTER_BYTES);
  const runs = [8, 15, 16, 64, 8000].map((length) => ({
    name: `l2RunLength, ${length} entries`,
    prepare: contiguous,
    run: (kernels: Kernels) => kernels.l2RunLength(FIRST, 9, 9 + length, CLUSTER_BYTES),
  }));
  return [
    {
      name: `swap64, ${ENTRIES} entries`,
      prepare: contiguous,
      run: (kernels) => kernels.swap64(FIRST, SECOND, ENTRIES),
    },
    { name: `l2FillRun, ${ENTRIES} entries`, prepare: contiguous, run: contiguous },
    ...runs,
  ];
}

function refcounts(): Workload[] {
  return [0, 1, 2, 3, 4, 5, 6].flatMap((order) => {
    const width = 2 ** order;
    const entries = (CLUSTER_BYTES * 8) / width;
    const some = Math.min(entries, ENTRIES) - 7;
    const everyNinthFree = (kernels: Kernels) => {
      kernels.bytes.fill(0xff, FIRST, FIRST + CLUSTER_BYTES);
      for (let index = 0; index < entries; index += 9) kernels.refcountSet(FIRST, order, index, 0);
      for (let index = entries - 3; index < entries; index++) kernels.refcountSet(FIRST, order, index, 0);
    };
    return [
      {
        name: `refcountAdd +1 -1, width ${width}, ${some} entries`,
        prepare: (kernels: Kernels) => kernels.bytes.fill(0, FIRST, FIRST + CLUSTER_BYTES),
        run: (kernels: Kernels) => [
          kernels.refcountAdd(FIRST, order, 3, some, 1),
          kernels.refcountAdd(FIRST, order, 3, some, -1),
        ],
      },
      {
        name: `refcountUsedLength, width ${width}, ${entries} entries`,
        prepare: (kernels: Kernels) => kernels.bytes.fill(0xff, FIRST, FIRST + CLUSTER_BYTES),
        run: (kernels: Kernels) => kernels.refcountUsedLength(FIRST, order, 0, entries),
      },
      {
        name: `refcountGet, width ${width}, 512 entries`,
        prepare: everyNinthFree,
        run: (kernels: Kernels) => {
          let sum = 0;
          for (let index = 0; index < 512; index++) sum += kernels.refcountGet(FIRST, order, index);
          return sum;
        },
      },
    ];
  });
}
