// Fifty clients that must notice nothing while somebody else misbehaves.

import { connectionToken } from './tokens.js';
import { Raw } from './raw.js';
import { within } from './wait.js';

export const WITNESSES = 50;
const CHANNEL = 'heartbeat';

export class Witnesses {
  /** Connects them; the server must let signed-in clients subscribe to channels without a namespace. */
  static async of(server) {
    const witnesses = new Witnesses(server);
    witnesses.clients = await Promise.all(Array.from({ length: WITNESSES }, async (_, index) => {
      const client = await Raw.connect(server.ws, { token: connectionToken(`witness${index}`) }, { pong: true });
      const reply = await client.ask({ subscribe: { channel: CHANNEL } });
      if (!reply.subscribe) throw new Error(JSON.stringify(reply));
      return client;
    }));
    return witnesses;
  }

  constructor(server) {
    this.server = server;
    this.beats = 0;
  }

  /** Publishes once and waits until every witness has it: the next message each one gets, so none was missed. */
  async beat() {
    this.beats += 1;
    const beat = this.beats;
    await this.server.publish(CHANNEL, { beat });
    await within(`all ${WITNESSES} witnesses get beat ${beat}`, Promise.all(this.clients.map(async (client) => {
      const message = await client.find((each) => each.push?.pub);
      if (message.push.pub.data.beat !== beat) throw new Error(`a witness got ${JSON.stringify(message)}, not beat ${beat}`);
    })));
  }

  close() { for (const client of this.clients) client.close(); }
}
