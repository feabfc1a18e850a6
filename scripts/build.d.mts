/** Types for the tests that build the programs. */

/** Bundles the programs, `qcow2-img.js` and the others, into `outdir`. */
export function buildPrograms(options?: { readonly outdir?: string }): Promise<unknown>;

/** Builds what is stale in dist/. */
export function build(options?: { readonly force?: boolean; readonly types?: boolean }): Promise<void>;
