/**
 * Times things against each other in one run. The machine is shared and its speed drifts, so all candidates take turns in
 * short rounds, and what counts is the median of the ratios within a round.
 */
export interface Candidate {
  readonly name: string;
  readonly run: () => void;
}

export interface Timing {
  readonly name: string;
  /** The median time of one call, in microseconds. */
  readonly microseconds: number;
  /** The median over the rounds of (time of the first candidate) / (time of this one). */
  readonly ratio: number;
}

const WARM_UP_MILLISECONDS = 40;
const ROUND_MILLISECONDS = 4;

/** Times the candidates; the first one is what the others are compared with. */
export function compare(candidates: readonly Candidate[], rounds = 21): Timing[] {
  const calls = candidates.map(callsPerRound);
  const times = candidates.map(() => new Array<number>());
  for (let round = 0; round < rounds; round++) {
    candidates.forEach(({ run }, index) => {
      const count = calls[index] ?? 1;
      const start = performance.now();
      for (let call = 0; call < count; call++) run();
      times[index]?.push(((performance.now() - start) * 1000) / count);
    });
  }
  const base = times[0] ?? [];
  return candidates.map(({ name }, index) => {
    const own = times[index] ?? [];
    return { name, microseconds: median(own), ratio: median(own.map((time, round) => (base[round] ?? 0) / time)) };
  });
}

/** Warms up, and returns how many calls take about a round. */
function callsPerRound({ run }: Candidate): number {
  const start = performance.now();
  let calls = 0;
  while (performance.now() - start < WARM_UP_MILLISECONDS) {
    run();
    calls++;
  }
  return Math.max(1, Math.round((calls * ROUND_MILLISECONDS) / WARM_UP_MILLISECONDS));
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? 0) + upper) / 2;
}

/** A markdown table. The first row is the head; columns after the first are numbers, aligned right. */
export function markdownTable(rows: readonly (readonly string[])[]): string {
  const [head = [], ...body] = rows;
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map((_, column) => (column === 0 ? '---' : '--:'))), ...body.map(line)].join('\n');
}
