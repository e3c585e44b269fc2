// Many official clients in one process, told by lines on standard input what to do, telling by lines on standard output
// what they saw. `crates/server/tests/nodes` drives it and judges the record.
//
// The client's list of transports is no list of nodes: it keeps to the first of them that ever opened. So a client that
// may go to several nodes has one endpoint here, behind which a WebSocket constructor takes the nodes in turn, as a name
// with several addresses or a balancer would.
//
// Lines in, JSON:
//   {"do":"join","client":1,"nodes":["ws://…"],"encoding":"json","token":"…","channels":["log:a"]}
//   {"do":"publish","client":1,"channels":["log:a","log:b"],"every":20}    in turn, one at a time, until quiet
//   {"do":"quiet"}                                                         no publish any more; answered with "quiet"
//   {"do":"ask","client":1,"what":"presence","channel":"log:a"}            or presenceStats, history; see "answer"
//   {"do":"leave","client":1}
// The end of standard input is the end of the process.

import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

import WebSocket from 'ws';

import { encodings } from './lib/client.js';

const clients = new Map();
let publishing = [];
let quiet = false;

const tell = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

/** A WebSocket that opens the next node with every connection, beginning anywhere. */
function inTurn(nodes, start) {
  let next = start;
  return class extends WebSocket {
    constructor(_, protocols) {
      super(nodes[next % nodes.length], protocols);
      next += 1;
    }
  };
}

class Member {
  constructor({ client, nodes, encoding, token, channels }) {
    this.number = client;
    this.sequence = 0;
    this.encoding = encodings[encoding];
    this.client = new this.encoding.Client(nodes[0], {
      websocket: inTurn(nodes, client), token, timeout: 5_000, minReconnectDelay: 50, maxReconnectDelay: 500,
    });
    for (const event of ['connected', 'connecting', 'disconnected']) {
      this.client.on(event, (context) => this.tell({ event, code: context.code, id: context.client }));
    }
    this.client.on('publication', (context) => this.tell({
      event: 'server_side', channel: context.channel, publication: this.publication(context),
    }));
    for (const channel of channels) this.follow(channel);
    this.client.connect();
  }

  tell(event) { tell({ client: this.number, ...event }); }

  publication({ offset, data }) {
    const { p, s } = this.encoding.unpack(data) ?? {};
    return [offset ?? 0, p ?? null, s ?? null];
  }

  follow(channel) {
    const sub = this.client.newSubscription(channel, { minResubscribeDelay: 50, maxResubscribeDelay: 500, joinLeave: true });
    // The publications of a reply come right behind `subscribed`, before anything else can happen.
    let reply;
    sub.on('subscribed', ({ streamPosition, wasRecovering, recovered }) => {
      reply = { event: 'subscribed', channel, position: streamPosition, was_recovering: wasRecovering, recovered, publications: [] };
      const whole = reply;
      queueMicrotask(() => {
        reply = undefined;
        this.tell(whole);
      });
    });
    sub.on('publication', (context) => {
      const publication = this.publication(context);
      if (reply) reply.publications.push(publication);
      else this.tell({ event: 'publication', channel, publication });
    });
    for (const event of ['subscribing', 'unsubscribed']) {
      sub.on(event, ({ code }) => this.tell({ event, channel, code }));
    }
    for (const event of ['join', 'leave']) {
      sub.on(event, ({ info }) => this.tell({ event, channel, id: info.client }));
    }
    sub.subscribe();
  }

  /** One publish after the other, each answered or given up before the next. */
  async publish(channels, every) {
    for (let turn = 0; !quiet; turn += 1) {
      const channel = channels[turn % channels.length];
      this.sequence += 1;
      const what = { channel, publication: [0, this.number, this.sequence] };
      this.tell({ event: 'published', ...what });
      try {
        await this.client.publish(channel, this.encoding.pack({ p: this.number, s: this.sequence }));
        this.tell({ event: 'acknowledged', ...what });
      } catch ({ code }) {
        this.tell({ event: 'failed', code, ...what });
      }
      await delay(every);
    }
  }

  async ask(what, channel) {
    try {
      const answer = await this.client[what](channel, what === 'history' ? { limit: -1 } : undefined);
      if (answer.clients) this.tell({ event: 'answer', channel, ids: Object.keys(answer.clients).sort() });
      else if (answer.publications) {
        const { offset, epoch, publications } = answer;
        this.tell({ event: 'answer', channel, position: { offset, epoch }, publications: publications.map((each) => this.publication(each)) });
      } else this.tell({ event: 'answer', channel, ...answer });
    } catch ({ code }) {
      this.tell({ event: 'answer', channel, code });
    }
  }
}

const commands = {
  join: (command) => clients.set(command.client, new Member(command)),
  publish: ({ client, channels, every }) => {
    quiet = false;
    publishing.push(clients.get(client).publish(channels, every));
  },
  quiet: async () => {
    quiet = true;
    await Promise.all(publishing);
    publishing = [];
    tell({ event: 'quiet' });
  },
  ask: ({ client, what, channel }) => clients.get(client).ask(what, channel),
  leave: ({ client }) => {
    clients.get(client)?.client.disconnect();
    clients.delete(client);
  },
};

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const command = JSON.parse(line);
    commands[command.do](command);
  })
  .on('close', () => process.exit(0));
