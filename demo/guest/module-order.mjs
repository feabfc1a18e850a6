/**
 * The order in which kernel modules are loaded: what a module depends on comes before it. Pure.
 *
 * A module file carries `key=value` strings, each ending in NUL, in its section .modinfo; `depends=a,b` names what it
 * needs. Module names treat `-` and `_` as the same letter, file names don't.
 */

/**
 * @param {Uint8Array} moduleFile contents of a .ko file
 * @returns {string[]} names of the modules it needs
 * @throws {RangeError} when it has no such entry, so is no kernel module
 */
export function moduleDependencies(moduleFile) {
  const match = /\0depends=([\w,-]*)\0/.exec(Buffer.from(moduleFile).toString('latin1'));
  if (!match) throw new RangeError('the file has no "depends=" entry, so it is not a kernel module');
  return match[1].split(',').filter((name) => name !== '');
}

/**
 * @param {readonly string[]} roots names of the modules wanted
 * @param {(name: string) => readonly string[]} dependenciesOf
 * @returns {string[]} the roots and all they need, each once, in an order to load them
 * @throws {RangeError} when modules need each other in a circle
 */
export function loadOrder(roots, dependenciesOf) {
  /** @type {string[]} */
  const order = [];
  /** @param {string} name @param {readonly string[]} neededBy */
  const visit = (name, neededBy) => {
    if (order.includes(name)) return;
    if (neededBy.includes(name)) throw new RangeError(`modules need each other: ${[...neededBy, name].join(' > ')}`);
    for (const dependency of dependenciesOf(name)) visit(canonicalName(dependency), [...neededBy, name]);
    order.push(name);
  };
  for (const root of roots) visit(canonicalName(root), []);
  return order;
}

/** @param {string} name a module's name, or its file's without `.ko` */
export function canonicalName(name) {
  return name.replaceAll('-', '_');
}
