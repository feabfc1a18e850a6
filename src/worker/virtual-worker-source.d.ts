/** The bundled source of `src/worker.ts`, as text. The build (`scripts/build.mjs`) and `vitest.config.ts` resolve it. */
declare module 'virtual:worker-source' {
  const source: string;
  export default source;
}
