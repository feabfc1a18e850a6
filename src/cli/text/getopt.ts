/**
 * Command-line options by the rules of `getopt_long`: clusters of short options (`-qf raw`, `-fraw`), long ones with their argument
 * after `=` or as the next word, unambiguous beginnings of long names, options among the operands, and `--` that ends them.
 * (`parseArgs` of `node:util` has no beginnings of names, and no order between options.)
 */

export interface OptionSpec {
  /** What the program calls it. */
  readonly name: string;
  /** The letter. */
  readonly short?: string;
  /** The long name. */
  readonly long?: string;
  /** Default false. */
  readonly argument?: boolean;
}

export interface GivenOption {
  readonly name: string;
  /** Empty for an option without argument. */
  readonly value: string;
}

/** Why parsing ended early. */
export interface OptionProblem {
  readonly kind: 'unknown' | 'missing-argument';
  /**
   * The word that programs name in messages of their own, `argv[optind - 1]`: the word with the option; in the midst of a cluster,
   * as with `getopt_long`, the one before it.
   */
  readonly word: string;
  /** What the C library says: "invalid option -- 'x'". */
  readonly message: string;
}

export interface ParsedOptions {
  /** In the order they were given. */
  readonly options: readonly GivenOption[];
  readonly operands: readonly string[];
  /** Null when all was understood. The options before it are in `options`. */
  readonly problem: OptionProblem | null;
}

export interface ParseRules {
  /** The word before the first argument: the program's or the command's name. Default empty. */
  readonly command?: string;
  /** The first operand ends the options: what follows is for somebody else. Default false. */
  readonly stopAtOperand?: boolean;
}

/** The options and operands of `args`. */
export function parseOptions(
  args: readonly string[],
  specs: readonly OptionSpec[],
  rules: ParseRules = {},
): ParsedOptions {
  return new Parser(args, specs, rules).parse();
}

class Parser {
  readonly #options: GivenOption[] = [];
  readonly #operands: string[] = [];
  readonly #args: readonly string[];
  readonly #specs: readonly OptionSpec[];
  readonly #rules: ParseRules;
  #next = 0;
  #problem: OptionProblem | null = null;

  constructor(args: readonly string[], specs: readonly OptionSpec[], rules: ParseRules) {
    this.#args = args;
    this.#specs = specs;
    this.#rules = rules;
  }

  parse(): ParsedOptions {
    while (this.#next < this.#args.length && this.#problem === null) {
      const word = this.#args[this.#next]!;
      if (word === '--') {
        this.#operands.push(...this.#args.slice(this.#next + 1));
        break;
      }
      if (word.startsWith('--')) this.#long(word);
      else if (word.startsWith('-') && word !== '-') this.#cluster(word);
      else if (this.#rules.stopAtOperand === true) {
        this.#operands.push(...this.#args.slice(this.#next));
        break;
      } else {
        this.#operands.push(word);
        this.#next++;
      }
    }
    return { options: this.#options, operands: this.#operands, problem: this.#problem };
  }

  #long(word: string): void {
    this.#next++;
    const equals = word.indexOf('=');
    const given = equals < 0 ? word.slice(2) : word.slice(2, equals);
    const candidates = this.#specs.filter(({ long }) => long?.startsWith(given));
    const exact = candidates.find(({ long }) => long === given);
    const spec = exact ?? candidates[0];
    if (spec === undefined) return this.#fail('unknown', word, `unrecognized option '--${given}'`);
    if (exact === undefined && candidates.length > 1) {
      const names = candidates.map(({ long }) => ` '--${long}'`).join('');
      return this.#fail('unknown', word, `option '--${given}' is ambiguous; possibilities:${names}`);
    }
    if (spec.argument !== true) {
      if (equals < 0) this.#options.push({ name: spec.name, value: '' });
      else this.#fail('unknown', word, `option '--${spec.long}' doesn't allow an argument`);
      return;
    }
    if (equals >= 0) this.#options.push({ name: spec.name, value: word.slice(equals + 1) });
    else this.#takeNextWord(spec.name, word, `option '--${spec.long}' requires an argument`);
  }

  #cluster(word: string): void {
    const before = this.#operands.at(-1) ?? this.#args[this.#next - 1] ?? this.#rules.command ?? '';
    this.#next++;
    for (let at = 1; at < word.length; at++) {
      const letter = word[at]!;
      const last = at === word.length - 1;
      const spec = this.#specs.find(({ short }) => short === letter);
      if (spec === undefined) return this.#fail('unknown', last ? word : before, `invalid option -- '${letter}'`);
      if (spec.argument === true) {
        if (last) this.#takeNextWord(spec.name, word, `option requires an argument -- '${letter}'`);
        else this.#options.push({ name: spec.name, value: word.slice(at + 1) });
        return;
      }
      this.#options.push({ name: spec.name, value: '' });
    }
  }

  #takeNextWord(name: string, word: string, message: string): void {
    const value = this.#args[this.#next];
    if (value === undefined) return this.#fail('missing-argument', word, message);
    this.#next++;
    this.#options.push({ name, value });
  }

  #fail(kind: OptionProblem['kind'], word: string, message: string): void {
    this.#problem = { kind, word, message };
  }
}
