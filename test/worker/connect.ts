/** A client and a server at the two ends of a channel, in one process. */
import type { NetworkHost } from '../../src/network/open-base.js';
import type { ClientPort } from '../../src/worker/client.js';
import { WorkerClient } from '../../src/worker/client.js';
import type { OpenDirectory } from '../../src/worker/image-files.js';
import type { MessageToPage, MessageToWorker, OpenRequest } from '../../src/worker/protocol.js';
import { serve, type ServerPort } from '../../src/worker/server.js';

export interface Connection {
  readonly client: WorkerClient;
  /** What the client posts goes through here. */
  readonly port: MessagePort;
}

const open: MessagePort[] = [];

export function connect(openDirectory: OpenDirectory, network?: NetworkHost): Connection {
  const { port1, port2 } = new MessageChannel();
  open.push(port1, port2);
  serve(port2 as ServerPort, { openDirectory, ...(network && { network }) });
  const client = new WorkerClient(port1 as ClientPort, () => port1.close());
  port1.start();
  port2.start();
  return { client, port: port1 };
}

/** For `afterEach`: an open port keeps the process alive. */
export function closeConnections(): void {
  for (const port of open.splice(0)) port.close();
}

export interface DirectServer {
  /** Has arrived when it returns, and has been begun if nothing else is under way. */
  readonly send: (message: MessageToWorker) => void;
  /** What the server says next; first of all that it is ready. One wait at a time. */
  readonly nextAnswer: () => Promise<MessageToPage>;
}

/** A server without a channel, which would give it a copy of each message, and later. */
export function directServer(openDirectory: OpenDirectory): DirectServer {
  const answers: MessageToPage[] = [];
  let deliver: (message: MessageToWorker) => void = () => {};
  let wake: () => void = () => {};
  const port: ServerPort = {
    postMessage: (message) => {
      answers.push(message);
      wake();
    },
    addEventListener: (_, listener) => {
      deliver = (data) => listener({ data } as MessageEvent<MessageToWorker>);
    },
  };
  serve(port, { openDirectory });
  const nextAnswer = async (): Promise<MessageToPage> => {
    for (;;) {
      const answer = answers.shift();
      if (answer !== undefined) return answer;
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  return { send: (message) => deliver(message), nextAnswer };
}

export function openRequest(options: Partial<Omit<OpenRequest, 'kind'>> = {}): OpenRequest {
  return { kind: 'open', directory: 'disks', name: 'disk.qcow2', readOnly: false, backing: [], ...options };
}
