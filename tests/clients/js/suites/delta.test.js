// Fossil deltas: the client puts the payloads together again, so what it hands out must be what was published.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { forBoth } from '../lib/client.js';
import { Proxy } from '../lib/proxy.js';
import { startServer } from '../lib/server.js';
import { connectionToken } from '../lib/tokens.js';

const history = { history_size: 20, history_ttl: '300s' };
const config = {
  channel: {
    namespaces: [
      { name: 'delta', allow_subscribe_for_client: true, ...history, force_recovery: true, allowed_delta_types: ['fossil'] },
    ],
  },
};

/** Payloads that have most of their text in common, with characters of several bytes at the edges. */
const payload = (n) => ({ rows: 'same '.repeat(60), n, text: `é日${n}本`, tail: 'x'.repeat(n * 3) });

describe('deltas', () => {
  let server;
  before(async () => { server = await startServer(config); });
  after(() => server.stop());

  forBoth(test, 'inv_d6: payloads are what was published, live and recovered', async ({ peer, context, encoding }) => {
    const channel = `delta:${encoding}`;
    const proxy = await Proxy.to(server.port);
    context.after(() => proxy.close());
    const one = peer(proxy.ws, { token: connectionToken('ann') });
    await one.connect();
    const made = await one.subscribe(channel, { delta: 'fossil' });
    const publish = async (from, to) => {
      for (let n = from; n <= to; n += 1) {
        await server.publish(channel, payload(n), { delta: n % 4 !== 0 });
      }
    };
    const expected = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => payload(from + at));
    await publish(1, 6);
    assert.deepEqual(await one.payloads(made, 6), expected(1, 6));

    proxy.down();
    await one.events.next('connecting');
    await publish(7, 9);
    proxy.restore();
    assert.equal((await made.events.next('subscribed')).recovered, true);
    assert.deepEqual(await one.payloads(made, 3), expected(7, 9));
    await publish(10, 12);
    assert.deepEqual(await one.payloads(made, 3), expected(10, 12));
  });

  forBoth(test, 'inv_d6: what is sent is smaller', async ({ peer, encoding }) => {
    const channel = `delta:size-${encoding}`;
    const received = { plain: 0, delta: 0 };
    const listen = async (kind, options) => {
      const one = peer(server.ws, { token: connectionToken('ann') });
      await one.connect();
      const made = await one.subscribe(channel, options);
      one.client._transport._transport.addEventListener('message', (event) => {
        received[kind] += event.data.length ?? event.data.byteLength ?? event.data.size;
      });
      return { one, made };
    };
    const plain = await listen('plain', {});
    const delta = await listen('delta', { delta: 'fossil' });
    for (let n = 1; n <= 10; n += 1) await server.publish(channel, payload(n), { delta: true });
    const expected = Array.from({ length: 10 }, (_, at) => payload(at + 1));
    assert.deepEqual(await plain.one.payloads(plain.made, 10), expected);
    assert.deepEqual(await delta.one.payloads(delta.made, 10), expected);
    assert.ok(received.delta * 2 < received.plain, `${received.delta} of ${received.plain} bytes`);
  });
});
