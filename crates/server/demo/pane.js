// One client with a connection, a subscription and a name of its own.
//
// What it is doing is one of these states:
//   { kind: "connecting" }                         not subscribed yet, or again
//   { kind: "live", offset, caughtUp }             caughtUp: undefined, or what the last recovery brought
//   { kind: "cut", offset, refused }               by the button; refused: attempts to connect since then
//   { kind: "failed", reason }                     the server wants no further attempt
// where caughtUp is { kind: "recovered", from, count } or { kind: "gap", from }.

import './vendor/centrifuge/centrifuge.js';

import { Cable } from './cable.js';

const { Centrifuge } = globalThis;

/** Delays between attempts while the server is away, in milliseconds. */
const RECONNECT = { minReconnectDelay: 300, maxReconnectDelay: 1500 };

export class Pane {
  #cable = new Cable();
  #client;
  #subscription;
  #view;
  #names;
  #present = new Map();
  #offset = 0;
  #recovery;
  #state;

  /** `url` of the WebSocket endpoint; `view` shows what happens and says what is wanted. */
  constructor({ name, url, channel, names, view }) {
    this.name = name;
    this.#view = view;
    this.#names = names;
    this.#client = new Centrifuge(url, {
      name: 'demo', websocket: this.#cable.WebSocket, networkEventTarget: this.#cable, ...RECONNECT,
    });
    this.#subscription = this.#client.newSubscription(channel, { joinLeave: true });
    this.#listen();
    this.#become({ kind: 'connecting' });
    this.#subscription.subscribe();
    this.#client.connect();
  }

  #listen() {
    this.#client.on('connected', ({ client }) => this.#names.set(client, this.name));
    this.#client.on('disconnected', ({ reason }) => this.#become({ kind: 'failed', reason }));
    this.#subscription.on('subscribed', (context) => this.#subscribed(context));
    this.#subscription.on('subscribing', () => this.#lost());
    this.#subscription.on('unsubscribed', ({ reason }) => this.#become({ kind: 'failed', reason }));
    this.#subscription.on('publication', (publication) => this.#publication(publication));
    this.#subscription.on('join', ({ info }) => this.#here(info.client, true));
    this.#subscription.on('leave', ({ info }) => this.#here(info.client, false));
    this.#names.addEventListener('change', () => this.#showPresent());
    this.#cable.addEventListener('refused', () => {
      if (this.#state.kind === 'cut') this.#become({ ...this.#state, refused: this.#state.refused + 1 });
    });
    this.#view.on({ send: (text) => this.#send(text), cut: () => this.#cut(), restore: () => this.#restore() });
  }

  // === The subscription ===

  #subscribed({ wasRecovering, recovered, streamPosition }) {
    const from = this.#offset;
    if (wasRecovering && recovered) {
      // What was missed is emitted before this turn of the event loop goes on to anything else.
      this.#recovery = { kind: 'recovered', from, count: 0 };
      queueMicrotask(() => this.#caughtUp());
    } else {
      this.#offset = streamPosition?.offset ?? 0;
      this.#live(wasRecovering ? { kind: 'gap', from } : undefined);
    }
    this.#loadPresent();
  }

  #caughtUp() {
    const recovery = this.#recovery;
    this.#recovery = undefined;
    this.#view.mark(`back, ${recovery.count} recovered`);
    this.#live(recovery);
  }

  #publication({ offset, data }) {
    this.#offset = offset ?? this.#offset;
    if (this.#recovery) this.#recovery.count += 1;
    this.#view.message({ offset, sender: senderOf(data), text: textOf(data), recovered: this.#recovery !== undefined });
    if (this.#state.kind === 'live') this.#become({ ...this.#state, offset: this.#offset });
  }

  #lost() {
    // The client says so too before it has connected for the first time, and while the network is cut.
    if (this.#state.kind === 'live') this.#become({ kind: 'connecting' });
  }

  #live(caughtUp) { this.#become({ kind: 'live', offset: this.#offset, caughtUp }); }

  // === Who is there ===

  async #loadPresent() {
    try {
      const { clients } = await this.#subscription.presence();
      this.#present = new Map(Object.keys(clients).map((client) => [client, true]));
      this.#showPresent();
    } catch {
      // The connection is gone again; the next subscription asks anew.
    }
  }

  #here(client, is) {
    if (is) this.#present.set(client, true);
    else this.#present.delete(client);
    this.#showPresent();
  }

  #showPresent() {
    this.#view.present([...this.#present.keys()].map((client) => this.#names.of(client)).sort());
  }

  // === What the person wants ===

  #cut() {
    this.#view.mark(`network cut after offset ${this.#offset}`);
    this.#become({ kind: 'cut', offset: this.#offset, refused: 0 });
    this.#cable.cut();
  }

  #restore() {
    this.#become({ kind: 'connecting' });
    this.#cable.restore();
  }

  async #send(text) {
    try {
      await this.#subscription.publish({ name: this.name, text });
      return true;
    } catch (error) {
      this.#view.mark(`not sent: ${error.message}`);
      return false;
    }
  }

  #become(state) {
    this.#state = state;
    this.#view.state(state);
  }
}

// Whoever publishes decides what a message is; the page shows anything.

function senderOf(data) { return typeof data?.name === 'string' ? data.name : 'backend'; }

function textOf(data) {
  if (typeof data === 'string') return data;
  return typeof data?.text === 'string' ? data.text : JSON.stringify(data);
}
