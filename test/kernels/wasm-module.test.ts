/** Where the kernels come from: the inlined bytes, or a file given to `loadKernels`. */
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { isQcow2Error, type ErrorCode } from '../../src/errors.js';
import { loadKernels, SCRATCH_BYTES, wasmKernels } from '../../src/kernels/index.js';
import { kernelsModule } from '../../src/kernels/wasm-module.js';

const FILE = readFileSync(new URL('../../dist/kernels.wasm', import.meta.url));

/** A valid module that exports nothing. */
const EMPTY_MODULE = Uint8Array.of(0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00);

const withCode = (code: ErrorCode) => expect.toSatisfy((error) => isQcow2Error(error, code), `a Qcow2Error ${code}`);

function expectKernelsWork(): void {
  const kernels = wasmKernels({ slotBytes: 512, slots: 1 });
  expect(kernels.refcountAdd(SCRATCH_BYTES, 4, 0, 256, 7)).toBe(-1);
  expect(kernels.refcountGet(SCRATCH_BYTES, 4, 255)).toBe(7);
}

describe('the inlined kernels', () => {
  test('are compiled once, and are the bytes of the file', () => {
    expect(kernelsModule()).toBe(kernelsModule());
    expect(WebAssembly.Module.exports(kernelsModule())).toEqual(
      WebAssembly.Module.exports(new WebAssembly.Module(FILE)),
    );
    expectKernelsWork();
  });

  test('a host without WebAssembly gets UNSUPPORTED', async () => {
    vi.stubGlobal('WebAssembly', undefined);
    try {
      await expect(loadKernels(FILE)).rejects.toEqual(withCode('UNSUPPORTED'));
    } finally {
      vi.unstubAllGlobals();
    }
  });

  test('a host that can not compile SIMD gets UNSUPPORTED with the cause', async () => {
    vi.resetModules();
    const fresh = await import('../../src/kernels/wasm-module.js');
    const errors = await import('../../src/errors.js');
    const refusal = new WebAssembly.CompileError('no SIMD here');
    const module = vi.spyOn(WebAssembly, 'Module').mockImplementation(function refuse() {
      throw refusal;
    });
    try {
      fresh.kernelsModule();
      expect.unreachable('it compiled');
    } catch (error) {
      expect(errors.isQcow2Error(error, 'UNSUPPORTED')).toBe(true);
      expect((error as Error).cause).toBe(refusal);
    } finally {
      module.mockRestore();
    }
  });

  test('a memory larger than the host gives is refused with LIMIT', () => {
    expect(() => wasmKernels({ slotBytes: 2 ** 21, slots: 2 ** 21 })).toThrow(withCode('LIMIT'));
  });
});

describe('loadKernels', () => {
  let server: Server;
  let address: string;

  beforeAll(async () => {
    server = createServer((request, response) => {
      response.statusCode = request.url === '/kernels.wasm' ? 200 : request.url === '/broken' ? 500 : 404;
      response.end(FILE);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });

  afterAll(() => {
    server.close();
  });

  test('takes bytes, an address, a response and a compiled module, and the kernels are then of that module', async () => {
    const url = `${address}/kernels.wasm`;
    for (const source of [FILE, url, new URL(url), await fetch(url), new WebAssembly.Module(FILE)]) {
      const before = kernelsModule();
      await loadKernels(source);
      expect(kernelsModule()).not.toBe(before);
      expectKernelsWork();
    }
  });

  test('rejects what is not to be had, and keeps the kernels it has', async () => {
    const before = kernelsModule();
    await expect(loadKernels(`${address}/nothing`)).rejects.toEqual(withCode('NOT_FOUND'));
    await expect(loadKernels(`${address}/broken`)).rejects.toEqual(withCode('IO'));
    await expect(loadKernels('http://127.0.0.1:1/kernels.wasm')).rejects.toEqual(withCode('IO'));
    expect(kernelsModule()).toBe(before);
  });

  test('rejects what is not our kernels', async () => {
    await expect(loadKernels(new Uint8Array(40))).rejects.toEqual(withCode('BAD_ARGUMENT'));
    await expect(loadKernels(EMPTY_MODULE)).rejects.toEqual(withCode('BAD_ARGUMENT'));
    await expect(loadKernels(new WebAssembly.Module(EMPTY_MODULE))).rejects.toEqual(withCode('BAD_ARGUMENT'));
    expectKernelsWork();
  });
});
