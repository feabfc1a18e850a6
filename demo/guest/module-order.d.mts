/** Types of module-order.mjs for the tests. */
export function moduleDependencies(moduleFile: Uint8Array): string[];
export function loadOrder(roots: readonly string[], dependenciesOf: (name: string) => readonly string[]): string[];
export function canonicalName(name: string): string;
