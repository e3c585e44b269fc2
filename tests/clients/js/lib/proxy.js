// A TCP proxy that loses connections on command: all at once, or after so many bytes.

import { once } from 'node:events';
import net from 'node:net';

export class Proxy {
  /** Listens on a free port and forwards to `port`. */
  static async to(port) {
    const proxy = new Proxy(port);
    proxy.listener.listen(0, '127.0.0.1');
    await once(proxy.listener, 'listening');
    return proxy;
  }

  constructor(target) {
    this.target = target;
    this.open = new Set();
    this.refusing = false;
    this.accepted = 0;
    this.budget = Infinity;
    this.listener = net.createServer((client) => this.#accept(client));
  }

  get port() { return this.listener.address().port; }
  get ws() { return `ws://127.0.0.1:${this.port}/connection/websocket`; }

  #accept(client) {
    if (this.refusing) {
      client.on('error', () => {});
      client.resetAndDestroy();
      return;
    }
    this.accepted += 1;
    const server = net.connect(this.target, '127.0.0.1');
    const pair = { client, server };
    this.open.add(pair);
    const end = () => {
      this.open.delete(pair);
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      socket.on('error', end);
      socket.on('close', end);
    }
    client.on('data', (bytes) => server.write(bytes));
    server.on('data', (bytes) => this.#down(pair, bytes));
  }

  #down(pair, bytes) {
    if (bytes.length < this.budget) {
      this.budget -= bytes.length;
      pair.client.write(bytes);
      return;
    }
    const rest = this.budget;
    this.budget = Infinity;
    pair.client.write(bytes.subarray(0, rest), () => this.#reset(pair));
  }

  #reset({ client, server }) {
    for (const socket of [client, server]) {
      // node 20 spins for ever over a socket that is reset while it is being shut down or connected.
      if (socket.writableEnded || socket.connecting) socket.destroy();
      else if (!socket.destroyed) socket.resetAndDestroy();
    }
  }

  /** Resets every connection now. */
  cut() {
    for (const pair of [...this.open]) this.#reset(pair);
  }

  /** Resets the connection that carries the byte `bytes` from here on from the server, after that byte. */
  cutAfter(bytes) { this.budget = bytes; }

  /** Resets every connection and refuses new ones until `restore`. */
  down() {
    this.refusing = true;
    this.cut();
  }

  restore() { this.refusing = false; }

  async close() {
    this.refusing = true;
    this.cut();
    this.listener.close();
    if (this.listener.listening) await once(this.listener, 'close');
  }
}
