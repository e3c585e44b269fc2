// permessage-deflate with npm `ws`, alone and below the official client: what comes out is what went in, in fewer bytes.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import WebSocket from 'ws';

import { forBoth } from '../lib/client.js';
import { Proxy } from '../lib/proxy.js';
import { Raw } from '../lib/raw.js';
import { startServer } from '../lib/server.js';
import { connectionToken } from '../lib/tokens.js';

const history = { history_size: 20, history_ttl: '300s', force_recovery: true };
const open = { allow_subscribe_for_client: true, allow_publish_for_client: true, allow_history_for_client: true, presence: true, join_leave: true };
const config = {
  websocket: { compression: true, compression_min_size: 50 },
  channel: {
    without_namespace: open,
    namespaces: [
      { name: 'log', ...open, ...history },
      { name: 'delta', ...open, ...history, allowed_delta_types: ['fossil'] },
    ],
  },
};

/** A socket class for the official client that offers `perMessageDeflate` and counts what came over the wire. */
function deflating(perMessageDeflate) {
  return class Deflating extends WebSocket {
    static sockets = [];

    constructor(address, protocols) {
      super(address, protocols, { perMessageDeflate });
      Deflating.sockets.push(this);
    }

    static get last() { return Deflating.sockets.at(-1); }
    static get bytes() { return Deflating.last._socket.bytesRead; }
  };
}

const offers = {
  'as ws offers it': true,
  'with small windows': { serverMaxWindowBits: 9, clientMaxWindowBits: 9 },
  'without context': { serverNoContextTakeover: true, clientNoContextTakeover: true },
  'everything compressed': { threshold: 0, serverMaxWindowBits: 12 },
};

const payload = (n) => ({ rows: 'same '.repeat(200), n, text: `é日${n}本`, tail: 'x'.repeat(n * 3) });
const payloads = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => payload(from + at));

describe('compression', () => {
  let server;
  before(async () => { server = await startServer(config); });
  after(() => server.stop());

  for (const [name, offer] of Object.entries(offers)) {
    forBoth(test, `inv_d6: the official client, ${name}`, async ({ peer, encoding, pack }) => {
      const Socket = deflating(offer);
      const channel = `log:${encoding}-${name.replaceAll(' ', '-')}`;
      const one = peer(server.ws, { token: connectionToken('ann'), websocket: Socket });
      await one.connect();
      assert.match(Socket.last.extensions, /^permessage-deflate/);
      const made = await one.subscribe(channel);
      const before = Socket.bytes;
      for (let n = 1; n <= 10; n += 1) await one.client.publish(channel, pack(payload(n)));
      assert.deepEqual(await one.payloads(made, 10), payloads(1, 10));
      assert.ok(Socket.bytes - before < 10 * 500, `${Socket.bytes - before} bytes for 10 publications of 1 kB`);
      // A reply that is larger than anything the channel pushed.
      const { publications } = await made.sub.history({ limit: 10 });
      assert.deepEqual(publications.map((each) => one.unpack(each.data)), payloads(1, 10));
    });
  }

  forBoth(test, 'inv_d1 inv_d6: recovered after a cut, in a reply that is compressed', async ({ peer, context, encoding }) => {
    const channel = `log:cut-${encoding}`;
    const proxy = await Proxy.to(server.port);
    context.after(() => proxy.close());
    const Socket = deflating(true);
    const one = peer(proxy.ws, { token: connectionToken('ann'), websocket: Socket });
    await one.connect();
    const made = await one.subscribe(channel);
    await server.publish(channel, payload(1));
    assert.deepEqual(await one.payloads(made, 1), payloads(1, 1));
    proxy.down();
    await one.events.next('connecting');
    await server.publishAll(channel, payloads(2, 12));
    proxy.restore();
    assert.equal((await made.events.next('subscribed')).recovered, true);
    assert.deepEqual(await one.payloads(made, 11), payloads(2, 12));
    assert.ok(Socket.bytes < 6000, `${Socket.bytes} bytes for what was missed`);
  });

  forBoth(test, 'inv_d1 inv_d6: cut at many bytes of a compressed stream', async ({ peer, context, encoding }) => {
    const channel = `log:cuts-${encoding}`;
    const proxy = await Proxy.to(server.port);
    context.after(() => proxy.close());
    const one = peer(proxy.ws, { token: connectionToken('ann'), websocket: deflating(true) });
    await one.connect();
    const made = await one.subscribe(channel);
    for (let n = 1; n <= 12; n += 1) {
      proxy.cutAfter(n * 17);
      await server.publish(channel, payload(n));
      await server.publish(channel, payload(100 + n));
      assert.deepEqual(await one.payloads(made, 2), [payload(n), payload(100 + n)]);
    }
    assert.ok(made.events.of('subscribed').every((event, at) => at === 0 || event.recovered));
  });

  forBoth(test, 'inv_d6: deltas are compressed like everything else', async ({ peer, context, encoding }) => {
    const channel = `delta:${encoding}`;
    const proxy = await Proxy.to(server.port);
    context.after(() => proxy.close());
    const one = peer(proxy.ws, { token: connectionToken('ann'), websocket: deflating(true) });
    const plain = peer(server.ws, { token: connectionToken('bob'), websocket: deflating(false) });
    await Promise.all([one.connect(), plain.connect()]);
    const made = await one.subscribe(channel, { delta: 'fossil' });
    const beside = await plain.subscribe(channel, { delta: 'fossil' });
    for (let n = 1; n <= 6; n += 1) await server.publish(channel, payload(n), { delta: n !== 4 });
    assert.deepEqual(await one.payloads(made, 6), payloads(1, 6));
    proxy.down();
    await one.events.next('connecting');
    for (let n = 7; n <= 9; n += 1) await server.publish(channel, payload(n), { delta: true });
    proxy.restore();
    assert.equal((await made.events.next('subscribed')).recovered, true);
    await server.publish(channel, payload(10), { delta: true });
    assert.deepEqual(await one.payloads(made, 4), payloads(7, 10));
    assert.deepEqual(await plain.payloads(beside, 10), payloads(1, 10));
  });

  test('compressed and plain clients in one channel get the same; a publication is compressed once', async (context) => {
    const channel = 'shared';
    const metric = (name) => server.metric(`tidewire_compression${name}_total`);
    const offered = [true, true, true, { serverMaxWindowBits: 12 }, false, false];
    const clients = await Promise.all(offered.map(async (perMessageDeflate, at) => {
      const raw = await Raw.connect(server.ws, { token: connectionToken(`user${at}`) }, { pong: true, perMessageDeflate });
      context.after(() => raw.close());
      const { subscribe } = await raw.ask({ subscribe: { channel } });
      assert.ok(subscribe);
      return raw;
    }));
    const before = await metric('s');
    const bytes = await metric('_input_bytes');
    await server.publish(channel, payload(1));
    for (const raw of clients) {
      assert.deepEqual((await raw.find((message) => message.push?.pub)).push.pub.data, payload(1));
    }
    assert.equal(await metric('s') - before, 1, 'four receivers, one compression');
    assert.ok(await metric('_input_bytes') - bytes > 1000);
    assert.ok(await metric('_output_bytes') < await metric('_input_bytes'));
  });

  test('messages below the least size and those that would grow go out as they are', async (context) => {
    const raw = await Raw.connect(server.ws, { token: connectionToken('ann') }, { pong: true, perMessageDeflate: true });
    context.after(() => raw.close());
    await raw.ask({ subscribe: { channel: 'small' } });
    const before = await server.metric('tidewire_compressions_total');
    await server.publish('small', 1);
    assert.equal((await raw.find((message) => message.push?.pub)).push.pub.data, 1);
    assert.equal(await server.metric('tidewire_compressions_total'), before);
  });

  test('a compressed command may be larger than a plain one', async (context) => {
    const raw = await Raw.connect(server.ws, { token: connectionToken('ann') }, { pong: true, perMessageDeflate: { threshold: 0 } });
    context.after(() => raw.close());
    await raw.ask({ subscribe: { channel: 'large' } });
    const data = 'much of the same '.repeat(20_000);
    const reply = await raw.ask({ publish: { channel: 'large', data } });
    assert.ok(reply.publish, JSON.stringify(reply));
    raw.send({ id: 99, publish: { channel: 'large', data: data.repeat(3) } });
    assert.equal((await raw.end()).code, 1009);
  });
});

describe('compression that is off', () => {
  test('is not agreed on, whatever is offered', async (context) => {
    const server = await startServer({ channel: { without_namespace: open } });
    context.after(() => server.stop());
    const raw = await Raw.connect(server.ws, { token: connectionToken('ann') }, { pong: true, perMessageDeflate: true });
    context.after(() => raw.close());
    assert.equal(raw.socket.extensions, '');
    assert.equal(await server.metric('tidewire_sockets_opened_deflate_total'), 0);
  });
});
