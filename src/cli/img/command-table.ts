/** The commands of qcow2-img: how they are called, and where they are. Each is loaded when it is needed. */
import type { Command } from './command.js';

export const SYNTAX = {
  amend: 'amend [--object objectdef] [--image-opts] [-p] [-q] [-f fmt] [-t cache] [--force] -o options filename',
  bench:
    'bench [-c count] [-d depth] [-f fmt] [--flush-interval=flush_interval] [-i aio] [-n] [--no-drain] [-o offset] [--pattern=pattern] [-q] [-s buffer_size] [-S step_size] [-t cache] [-w] [-U] filename',
  bitmap:
    'bitmap (--merge SOURCE | --add | --remove | --clear | --enable | --disable)... [-b source_file [-F source_fmt]] [-g granularity] [--object objectdef] [--image-opts | -f fmt] filename bitmap',
  check:
    'check [--object objectdef] [--image-opts] [-q] [-f fmt] [--output=ofmt] [-r [leaks | all]] [-T src_cache] [-U] filename',
  commit:
    'commit [--object objectdef] [--image-opts] [-q] [-f fmt] [-t cache] [-b base] [-r rate_limit] [-d] [-p] filename',
  compare:
    'compare [--object objectdef] [--image-opts] [-f fmt] [-F fmt] [-T src_cache] [-p] [-q] [-s] [-U] filename1 filename2',
  convert:
    'convert [--object objectdef] [--image-opts] [--target-image-opts] [--target-is-zero] [--bitmaps] [-U] [-C] [-c] [-p] [-q] [-n] [-f fmt] [-t cache] [-T src_cache] [-O output_fmt] [-B backing_file [-F backing_fmt]] [-o options] [-l snapshot_param] [-S sparse_size] [-r rate_limit] [-m num_coroutines] [-W] [--salvage] filename [filename2 [...]] output_filename',
  create:
    'create [--object objectdef] [-q] [-f fmt] [-b backing_file [-F backing_fmt]] [-u] [-o options] filename [size]',
  dd: 'dd [--image-opts] [-U] [-f fmt] [-O output_fmt] [bs=block_size] [count=blocks] [skip=blocks] if=input of=output',
  info: 'info [--object objectdef] [--image-opts] [-f fmt] [--output=ofmt] [--backing-chain] [-U] filename',
  map: 'map [--object objectdef] [--image-opts] [-f fmt] [--start-offset=offset] [--max-length=len] [--output=ofmt] [-U] filename',
  measure:
    'measure [--output=ofmt] [-O output_fmt] [-o options] [--size N | [--object objectdef] [--image-opts] [-f fmt] [-l snapshot_param] filename]',
  snapshot:
    'snapshot [--object objectdef] [--image-opts] [-U] [-q] [-l | -a snapshot | -c snapshot | -d snapshot] filename',
  rebase:
    'rebase [--object objectdef] [--image-opts] [-U] [-q] [-f fmt] [-t cache] [-T src_cache] [-p] [-u] -b backing_file [-F backing_fmt] filename',
  resize:
    'resize [--object objectdef] [--image-opts] [-f fmt] [--preallocation=prealloc] [-q] [--shrink] filename [+ | -]size',
} as const;

export type CommandName = keyof typeof SYNTAX;

export function isCommandName(name: string): name is CommandName {
  return Object.hasOwn(SYNTAX, name);
}

const MODULES: Readonly<Record<CommandName, () => Promise<{ readonly run: Command }>>> = {
  amend: () => import('./amend.js'),
  bench: () => import('./bench.js'),
  bitmap: () => import('./bitmap.js'),
  check: () => import('./check.js'),
  commit: () => import('./commit.js'),
  compare: () => import('./compare.js'),
  convert: () => import('./convert.js'),
  create: () => import('./create.js'),
  dd: () => import('./dd.js'),
  info: () => import('./info.js'),
  map: () => import('./map.js'),
  measure: () => import('./measure.js'),
  snapshot: () => import('./snapshot.js'),
  rebase: () => import('./rebase.js'),
  resize: () => import('./resize.js'),
};

export async function loadCommand(name: CommandName): Promise<Command> {
  const { run } = await MODULES[name]();
  return run;
}
