// The npm package `centrifuge`, unmodified, in both encodings.

import { Centrifuge as JsonCentrifuge } from 'centrifuge';
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf';
import WebSocket from 'ws';

import { Record } from './wait.js';

const CLIENT_EVENTS = ['connecting', 'connected', 'disconnected', 'error', 'message',
  'subscribing', 'subscribed', 'unsubscribed', 'publication', 'join', 'leave'];
const SUBSCRIPTION_EVENTS = ['subscribing', 'subscribed', 'unsubscribed', 'publication', 'join', 'leave', 'error'];

const utf8 = { encoder: new TextEncoder(), decoder: new TextDecoder() };

/** How payloads look to an application in each encoding: JSON values, or bytes. */
export const encodings = {
  json: { name: 'json', Client: JsonCentrifuge, pack: (value) => value, unpack: (data) => data },
  protobuf: {
    name: 'protobuf',
    Client: ProtobufCentrifuge,
    pack: (value) => utf8.encoder.encode(JSON.stringify(value)),
    unpack: (data) => (data === undefined || data === null || data.length === 0
      ? undefined : JSON.parse(utf8.decoder.decode(data))),
  },
};

/** A WebSocket that remembers how many messages were sent and what the headers are. */
export function countingWebSocket(headers = {}) {
  return class CountingWebSocket extends WebSocket {
    static sent = [];

    constructor(address, protocols) {
      super(address, protocols, { headers });
    }

    send(data, ...rest) {
      CountingWebSocket.sent.push(data);
      return super.send(data, ...rest);
    }
  };
}

/** A client of one encoding with a record of what happened to it. */
export class Peer {
  constructor(encoding, address, options = {}) {
    this.encoding = encodings[encoding];
    this.client = new this.encoding.Client(address, {
      websocket: WebSocket, minReconnectDelay: 5, maxReconnectDelay: 40, ...options,
    });
    this.events = new Record(this.client, CLIENT_EVENTS, `client (${encoding})`);
  }

  /** Connects and returns the context of `connected`. */
  async connect() {
    this.client.connect();
    return this.events.next('connected');
  }

  /** A subscription with a record of its events; not subscribed yet. */
  subscription(channel, options = {}) {
    const sub = this.client.newSubscription(channel, { minResubscribeDelay: 5, maxResubscribeDelay: 40, ...options });
    const events = new Record(sub, SUBSCRIPTION_EVENTS, `subscription ${channel}`);
    return { sub, events, channel };
  }

  /** Subscribes and waits until it is. */
  async subscribe(channel, options = {}) {
    const made = this.subscription(channel, options);
    made.sub.subscribe();
    made.first = await made.events.next('subscribed');
    return made;
  }

  pack(value) { return this.encoding.pack(value); }
  unpack(data) { return this.encoding.unpack(data); }
  publish(channel, value) { return this.client.publish(channel, this.pack(value)); }

  /** The payloads of the next `count` publications of a subscription. */
  async payloads(subscription, count, timeout) {
    return (await subscription.events.take('publication', count, timeout)).map((event) => this.unpack(event.data));
  }

  close() { this.client.disconnect(); }
}

/** Defines a test once for each encoding. `body` gets a `peer` maker that closes what it made. */
export function forBoth(test, name, body, options = {}) {
  for (const encoding of Object.keys(encodings)) {
    test(`${name} [${encoding}]`, { timeout: 60_000, ...options }, async (context) => {
      const peer = (address, more) => {
        const made = new Peer(encoding, address, more);
        context.after(() => made.close());
        return made;
      };
      await body({ peer, encoding, context, ...encodings[encoding] });
    });
  }
}
