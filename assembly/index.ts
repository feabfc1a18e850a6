/**
 * The kernels as the host calls them. Their contracts are `src/kernels/kernels.ts` and, for the sector ciphers,
 * `src/kernels/cipher-exports.ts`; one conformance suite each runs on them and on their TypeScript twins.
 *
 * Rules for every function here:
 * - the memory is imported (`env.memory`), laid out by the host and never grown; nothing is allocated and no state is kept
 * - addresses are byte offsets into it; a caller's mistake can trap or return nonsense, but never reach outside it
 * - no i64 in a signature: what may pass 2^32 crosses as a double or as two words
 */
export { swap64, l2RunLength, l2FillRun } from './l2';
export { refcountGet, refcountSet, refcountAdd } from './refcounts';
export { refcountFreeLength, refcountUsedLength } from './free-runs';
export * from './sector-modes';
