/** `qcow2-split`: a base image cut into files, for a site whose host knows no byte ranges. */
import { main } from './split/main.js';
import { ProcessConsole } from './text/messages.js';

const console = new ProcessConsole('qcow2-split');
process.exitCode = console.end(main(process.argv.slice(2), console));
