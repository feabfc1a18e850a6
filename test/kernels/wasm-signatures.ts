/**
 * The signatures of a WebAssembly module's exported functions, read from its binary: sections 1 (types), 3 (functions) and 7
 * (exports) of the core specification. For modules without imported functions.
 */

/** Value types as the binary has them. */
export const I64 = 0x7e;

export interface Signature {
  readonly parameters: readonly number[];
  readonly results: readonly number[];
}

const FUNCTION_EXPORT = 0;

export function functionSignatures(module: Uint8Array): Map<string, Signature> {
  const sections = sectionsOf(module);
  const types = readVector(sections.get(1), readFunctionType);
  const functions = readVector(sections.get(3), (reader) => reader.number());
  const exports = readVector(sections.get(7), (reader) => ({
    name: new TextDecoder().decode(reader.take(reader.number())),
    kind: reader.byte(),
    index: reader.number(),
  }));
  const signatures = new Map<string, Signature>();
  for (const { name, kind, index } of exports) {
    const signature = types[functions[index] ?? -1];
    if (kind === FUNCTION_EXPORT && signature !== undefined) signatures.set(name, signature);
  }
  return signatures;
}

class Reader {
  private offset = 0;

  constructor(private readonly bytes: Uint8Array) {}

  get done(): boolean {
    return this.offset >= this.bytes.length;
  }

  byte(): number {
    const value = this.bytes[this.offset++];
    if (value === undefined) throw new Error('the module ends early');
    return value;
  }

  /** An unsigned LEB128 number. */
  number(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  }

  take(length: number): Uint8Array {
    this.offset += length;
    return this.bytes.subarray(this.offset - length, this.offset);
  }
}

function sectionsOf(module: Uint8Array): Map<number, Reader> {
  const reader = new Reader(module);
  reader.take(8); // the magic and the version
  const sections = new Map<number, Reader>();
  while (!reader.done) {
    const kind = reader.byte();
    sections.set(kind, new Reader(reader.take(reader.number())));
  }
  return sections;
}

function readVector<T>(reader: Reader | undefined, readItem: (reader: Reader) => T): T[] {
  if (reader === undefined) return [];
  return Array.from({ length: reader.number() }, () => readItem(reader));
}

function readFunctionType(reader: Reader): Signature {
  reader.byte(); // 0x60: a function
  return { parameters: [...reader.take(reader.number())], results: [...reader.take(reader.number())] };
}
