/**
 * QEMU's configuration files: groups of settings.
 *
 *   # comment
 *   [inject-error]
 *   event = "l2_load"
 */
import { CliError } from '../text/messages.js';

export interface ConfigGroup {
  readonly name: string;
  readonly options: ReadonlyMap<string, string>;
}

/** Throws `CliError` for a line that is none. `path` is for messages. */
export function parseConfigFile(text: string, path: string): ConfigGroup[] {
  const groups: { name: string; options: Map<string, string> }[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (/^\s*(#.*)?$/.test(line)) continue;
    const header = /^\s*\[([^\s\]"]+)(?:\s+"[^"]*")?\]\s*$/.exec(line);
    const setting = /^\s*([\w.-]+)\s*=\s*"([^"]*)"\s*$/.exec(line);
    const group = groups.at(-1);
    if (header) groups.push({ name: header[1]!, options: new Map() });
    else if (setting && group === undefined) throw new CliError(`${path}:${index + 1}: no group defined`);
    else if (setting) group!.options.set(setting[1]!, setting[2]!);
    else throw new CliError(`${path}:${index + 1}: parse error`);
  }
  return groups;
}
