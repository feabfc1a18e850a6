#!/usr/bin/env node
/** `qcow2-img`: images made, changed, checked and copied on the command line, as with qemu-img. */
import { Interrupted, Interrupts } from './img/interrupts.js';
import { main } from './img/main.js';
import { ProcessConsole } from './text/messages.js';

const console = new ProcessConsole('qemu-img');
try {
  process.exitCode = await main(process.argv.slice(2), console);
  console.flush();
} catch (error) {
  console.flush();
  if (!(error instanceof Interrupted)) throw error;
  Interrupts.endBy(error.signal);
}
