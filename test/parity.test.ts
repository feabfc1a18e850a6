/** `docs/QEMU-PARITY.md` names all that QEMU's driver does, and for all of it a file and a test that are there. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '..');
const PAGE = readFileSync(join(ROOT, 'docs/QEMU-PARITY.md'), 'utf8');

/** The functions of block/qcow2.c in QEMU 2.10, in its order. */
const FUNCTIONS = [
  ...['qcow2_crypto_hdr_read_func', 'qcow2_crypto_hdr_init_func', 'qcow2_crypto_hdr_write_func'],
  ...['qcow2_crypt_method_from_format', 'qcow2_set_up_encryption'],
  ...['qcow2_save_vmstate', 'qcow2_load_vmstate', 'qcow2_snapshot_create', 'qcow2_snapshot_goto'],
  ...['qcow2_snapshot_delete', 'qcow2_snapshot_list', 'qcow2_snapshot_load_tmp'],
  ...['qcow2_probe', 'qcow2_read_extensions', 'cleanup_unknown_header_ext', 'report_unsupported_feature'],
  ...['qcow2_mark_dirty', 'qcow2_mark_clean', 'qcow2_mark_corrupt', 'qcow2_mark_consistent', 'qcow2_check'],
  ...['validate_table_offset', 'cache_clean_timer_cb', 'cache_clean_timer_init', 'cache_clean_timer_del'],
  ...['qcow2_detach_aio_context', 'qcow2_attach_aio_context', 'read_cache_sizes', 'qcow2_update_options_prepare'],
  ...['qcow2_update_options_commit', 'qcow2_update_options_abort', 'qcow2_update_options', 'qcow2_do_open'],
  ...['qcow2_open', 'qcow2_refresh_limits', 'qcow2_reopen_prepare', 'qcow2_reopen_commit', 'qcow2_reopen_abort'],
  ...['qcow2_join_options', 'qcow2_co_get_block_status', 'qcow2_backing_read1', 'qcow2_co_preadv'],
  ...['merge_cow', 'qcow2_co_pwritev'],
  ...['qcow2_inactivate', 'qcow2_close', 'qcow2_invalidate_cache', 'header_ext_add', 'qcow2_update_header'],
  ...['qcow2_change_backing_file', 'preallocate', 'qcow2_refcount_metadata_size', 'qcow2_calc_prealloc_size'],
  ...['qcow2_opt_get_cluster_size_del', 'qcow2_opt_get_version_del', 'qcow2_opt_get_refcount_bits_del'],
  ...['qcow2_create2', 'qcow2_create', 'is_zero_sectors', 'qcow2_co_pwrite_zeroes', 'qcow2_co_pdiscard'],
  ...['qcow2_truncate', 'qcow2_co_pwritev_compressed', 'make_completely_empty', 'qcow2_make_empty'],
  ...['qcow2_co_flush_to_os', 'qcow2_measure', 'qcow2_get_info', 'qcow2_get_specific_info', 'qcow2_downgrade'],
  ...['qcow2_amend_helper_cb', 'qcow2_amend_options', 'qcow2_signal_corruption'],
];

const RUNTIME_OPTIONS = [
  ...['LAZY_REFCOUNTS', 'DISCARD_REQUEST', 'DISCARD_SNAPSHOT', 'DISCARD_OTHER', 'OVERLAP', 'OVERLAP_TEMPLATE'],
  ...['OVERLAP_MAIN_HEADER', 'OVERLAP_ACTIVE_L1', 'OVERLAP_ACTIVE_L2', 'OVERLAP_REFCOUNT_TABLE'],
  ...['OVERLAP_REFCOUNT_BLOCK', 'OVERLAP_SNAPSHOT_TABLE', 'OVERLAP_INACTIVE_L1', 'OVERLAP_INACTIVE_L2'],
  ...['CACHE_SIZE', 'L2_CACHE_SIZE', 'REFCOUNT_CACHE_SIZE', 'CACHE_CLEAN_INTERVAL'],
].map((name) => `QCOW2_OPT_${name}`);

const CREATION_OPTIONS = [
  ...['ENCRYPT', 'ENCRYPT_FORMAT'],
  ...['SIZE', 'COMPAT_LEVEL', 'BACKING_FILE', 'BACKING_FMT', 'CLUSTER_SIZE', 'PREALLOC', 'LAZY_REFCOUNTS'],
  'REFCOUNT_BITS',
].map((name) => `BLOCK_OPT_${name}`);

/** The functions of block/qcow2-bitmap.c in QEMU 7.2 that do something to an image or look at one. */
const BITMAP_FUNCTIONS = [
  ...['check_table_entry', 'get_bitmap_bytes_needed', 'check_constraints_on_bitmap', 'clear_bitmap_table'],
  ...['bitmap_table_load', 'free_bitmap_clusters', 'load_bitmap_data', 'load_bitmap', 'check_dir_entry'],
  ...['bitmap_list_load', 'qcow2_check_bitmaps_refcounts', 'bitmap_list_store', 'update_ext_header_and_dir_in_place'],
  ...['update_ext_header_and_dir', 'qcow2_load_dirty_bitmaps', 'qcow2_get_bitmap_info_list', 'qcow2_reopen_bitmaps_rw'],
  ...['qcow2_truncate_bitmaps_check', 'store_bitmap_data', 'store_bitmap', 'qcow2_remove_persistent_dirty_bitmap'],
  ...['qcow2_store_persistent_dirty_bitmaps', 'qcow2_reopen_bitmaps_ro', 'qcow2_can_store_new_dirty_bitmap'],
  ...['qcow2_supports_persistent_dirty_bitmap', 'qcow2_get_persistent_dirty_bitmap_size'],
];

interface Row {
  readonly names: readonly string[];
  readonly sources: readonly string[];
  readonly tests: readonly string[];
}

function quoted(text: string): string[] {
  return [...text.matchAll(/`([^`]+)`/g)].map((match) => match[1]!);
}

/** The rows of all tables, without their heads. */
const ROWS: readonly Row[] = PAGE.split('\n')
  .filter((line) => line.startsWith('| `'))
  .map((line) => {
    const [, names = '', sources = '', tests = ''] = line.split('|');
    return { names: quoted(names), sources: quoted(sources), tests: quoted(tests) };
  });

describe('docs/QEMU-PARITY.md', () => {
  it.each([
    ['function', FUNCTIONS],
    ['function of bitmaps', BITMAP_FUNCTIONS],
    ['runtime option', RUNTIME_OPTIONS],
    ['creation option', CREATION_OPTIONS],
  ] as const)('has one row for each %s of the reference', (_, names) => {
    const rowsOf = (name: string) => ROWS.filter((row) => row.names.includes(name)).length;
    expect(names.filter((name) => rowsOf(name) !== 1)).toEqual([]);
  });

  it('has no row for a name of the driver that is in no list', () => {
    const known = new Set([...FUNCTIONS, ...BITMAP_FUNCTIONS, ...RUNTIME_OPTIONS, ...CREATION_OPTIONS]);
    const driver = /^(qcow2_|QCOW2_OPT_|BLOCK_OPT_)/;
    const names = ROWS.flatMap((row) => row.names).filter((name) => driver.test(name));
    expect(names.filter((name) => !known.has(name))).toEqual([]);
  });

  it('gives each row a file of ours and a test', () => {
    const isSource = (path: string) => path.startsWith('src/');
    const isTest = (path: string) => /^test\/.*\.test\.ts$/.test(path);
    const incomplete = ROWS.filter(
      (row) => !row.sources.some(isSource) || row.tests.length === 0 || !row.tests.every(isTest),
    );
    expect(incomplete.flatMap(({ names }) => names)).toEqual([]);
    expect(ROWS.length).toBeGreaterThan(50);
  });

  it('names only paths that exist', () => {
    const paths = quoted(PAGE).filter((text) => /^(src|test|docs)\//.test(text));
    expect(paths.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
  });
});
