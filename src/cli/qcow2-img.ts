/** `qcow2-img`: images made, changed, checked and copied on the command line, as with qemu-img. */
import { Interrupted, Interrupts } from './img/interrupts.js';
import { main } from './img/main.js';
import { ProcessConsole } from './text/messages.js';

const console = new ProcessConsole('qemu-img');
try {
  process.exitCode = console.end(await main(process.argv.slice(2), console));
} catch (error) {
  if (!(error instanceof Interrupted)) throw error;
  console.end(1);
  Interrupts.endBy(error.signal);
}
