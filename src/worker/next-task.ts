/**
 * Lets the event loop take what has arrived (messages, above all) before a long job goes on. A timer would do, but browsers
 * hold nested timers back by 4 ms; a message to oneself takes some microseconds.
 */
export function nextTask(): Promise<void> {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.addEventListener('message', () => {
      port1.close();
      resolve();
    });
    port1.start();
    port2.postMessage(null);
  });
}
