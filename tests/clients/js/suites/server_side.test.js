// Subscriptions that the server makes: named in tokens, made by the API, personal channels.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { forBoth } from '../lib/client.js';
import { Proxy } from '../lib/proxy.js';
import { Raw } from '../lib/raw.js';
import { startServer } from '../lib/server.js';
import { connectionToken, seconds } from '../lib/tokens.js';

const range = (count, from = 1) => Array.from({ length: count }, (_, index) => from + index);

describe('server-side subscriptions', () => {
  let server;
  before(async () => {
    server = await startServer({
      client: { expired_close_delay: '5s' },
      channel: {
        without_namespace: {},
        namespaces: [
          { name: 'plain', presence: true },
          { name: 'log', history_size: 20, history_ttl: '300s', force_recovery: true },
          { name: 'seen', presence: true, join_leave: true, force_push_join_leave: true },
        ],
      },
    });
  });
  after(() => server.stop());

  forBoth(test, 'channels of the token', async ({ peer }) => {
    const one = peer(server.ws, { token: connectionToken('ann', { channels: ['plain:a', 'plain:b'] }) });
    await one.connect();
    const subscribed = await one.events.take('subscribed', 2);
    assert.deepEqual(subscribed.map((event) => event.channel).sort(), ['plain:a', 'plain:b']);
    await server.publish('plain:b', { text: 'to b' });
    const event = await one.events.next('publication');
    assert.equal(event.channel, 'plain:b');
    assert.deepEqual(one.unpack(event.data), { text: 'to b' });
  });

  forBoth(test, 'subs of the token carry data and info', async ({ peer }) => {
    const subs = { 'plain:with': { data: { hello: 'you' }, info: { seat: 1 } } };
    const one = peer(server.ws, { token: connectionToken('ann', { subs, channels: ['plain:ignored'] }) });
    await one.connect();
    const event = await one.events.next('subscribed');
    assert.equal(event.channel, 'plain:with');
    assert.deepEqual(one.unpack(event.data), { hello: 'you' });
    const { presence } = await server.api('presence', { channel: 'plain:with' });
    assert.deepEqual(Object.values(presence).map((info) => info.chan_info), [{ seat: 1 }]);
    assert.deepEqual(await server.api('presence_stats', { channel: 'plain:ignored' }), { num_clients: 0, num_users: 0 });
  });

  forBoth(test, 'a channel of an unknown namespace in the token: 102', async ({ peer }) => {
    const one = peer(server.ws, { token: connectionToken('ann', { channels: ['nowhere:x'] }) });
    one.client.connect();
    assert.equal((await one.events.next('disconnected')).code, 102);
  });

  for (const missed of [0, 1, 15]) {
    forBoth(test, `inv_d1: ${missed} missed publications come back with the connect`, async ({ peer, context, encoding }) => {
      const channel = `log:missed-${missed}-${encoding}`;
      const proxy = await Proxy.to(server.port);
      context.after(() => proxy.close());
      const one = peer(proxy.ws, { token: connectionToken('ann', { channels: [channel] }) });
      await one.connect();
      assert.equal((await one.events.next('subscribed')).recoverable, true);
      await server.publishAll(channel, range(2));
      await one.events.take('publication', 2);
      proxy.down();
      await one.events.next('connecting');
      await server.publishAll(channel, range(missed, 3));
      proxy.restore();
      const again = await one.events.next('subscribed');
      assert.deepEqual([again.wasRecovering, again.recovered], [true, true]);
      await server.publish(channel, missed + 3);
      const events = await one.events.take('publication', missed + 1);
      assert.deepEqual(events.map((event) => event.offset), range(missed + 1, 3));
      assert.deepEqual(events.map((event) => one.unpack(event.data)), range(missed + 1, 3));
    });
  }

  forBoth(test, 'inv_d2: more than retained: told so', async ({ peer, context, encoding }) => {
    const channel = `log:more-${encoding}`;
    const proxy = await Proxy.to(server.port);
    context.after(() => proxy.close());
    const one = peer(proxy.ws, { token: connectionToken('ann', { channels: [channel] }) });
    await one.connect();
    await one.events.next('subscribed');
    proxy.down();
    await one.events.next('connecting');
    await server.publishAll(channel, range(21));
    proxy.restore();
    const again = await one.events.next('subscribed');
    assert.deepEqual([again.wasRecovering, again.recovered], [true, false]);
    await server.publish(channel, 'live');
    assert.equal(one.unpack((await one.events.next('publication')).data), 'live');
  });

  forBoth(test, 'made and ended by the API', async ({ peer, encoding }) => {
    const user = `api-${encoding}`;
    const one = peer(server.ws, { token: connectionToken(user) });
    await one.connect();
    await server.api('subscribe', { user, channel: 'log:api', data: { from: 'api' } });
    const subscribed = await one.events.next('subscribed');
    assert.equal(subscribed.channel, 'log:api');
    assert.equal(subscribed.recoverable, true);
    assert.deepEqual(one.unpack(subscribed.data), { from: 'api' });
    await server.publish('log:api', 1);
    assert.equal(one.unpack((await one.events.next('publication')).data), 1);
    // Again is no error.
    await server.api('subscribe', { user, channel: 'log:api' });
    await server.api('unsubscribe', { user, channel: 'log:api' });
    assert.equal((await one.events.next('unsubscribed')).channel, 'log:api');
    await server.publish('log:api', 'unheard');
    await server.api('subscribe', { user, channel: 'plain:api' });
    assert.equal((await one.events.next('subscribed')).channel, 'plain:api');
    assert.equal(one.events.of('publication').length, 1);
  });

  forBoth(test, 'only the addressed connection of a user', async ({ peer, encoding }) => {
    const user = `two-${encoding}`;
    const one = peer(server.ws, { token: connectionToken(user) });
    const two = peer(server.ws, { token: connectionToken(user) });
    const { client } = await one.connect();
    await two.connect();
    await server.api('subscribe', { user, client, channel: `plain:only-${encoding}` });
    await one.events.next('subscribed');
    assert.equal((await server.api('presence_stats', { channel: `plain:only-${encoding}` })).num_clients, 1);
    assert.equal(two.events.of('subscribed').length, 0);
  });

  forBoth(test, 'joins and leaves', async ({ peer, encoding }) => {
    const channel = `seen:${encoding}`;
    const one = peer(server.ws, { token: connectionToken('ann', { channels: [channel] }) });
    await one.connect();
    assert.equal((await one.events.next('join')).info.user, 'ann');
    const two = peer(server.ws, { token: connectionToken('bob', { channels: [channel] }) });
    await two.connect();
    assert.equal((await one.events.next('join')).info.user, 'bob');
    two.close();
    assert.equal((await one.events.next('leave')).info.user, 'bob');
  });

  forBoth(test, 'a refreshed token with other channels asks to reconnect (3010)', async ({ peer }) => {
    let tokens = 0;
    const one = peer(server.ws, {
      getToken: async () => {
        tokens += 1;
        return connectionToken('ann', { exp: seconds(tokens === 1 ? 3 : 3600), channels: [tokens === 1 ? 'plain:old' : 'plain:new'] });
      },
    });
    await one.connect();
    assert.equal((await one.events.next('subscribed')).channel, 'plain:old');
    assert.equal((await one.events.next('connecting')).code, 3010);
    assert.equal((await one.events.next('subscribed')).channel, 'plain:new');
  });

  test('a client cannot subscribe to them again: 105', async (context) => {
    const raw = await Raw.connect(server.ws, { token: connectionToken('ann', { channels: ['plain:x'] }) });
    context.after(() => raw.close());
    assert.deepEqual((await raw.ask({ subscribe: { channel: 'plain:x' } })).error.code, 105);
    // But it can leave them.
    assert.deepEqual((await raw.ask({ unsubscribe: { channel: 'plain:x' } })).unsubscribe, {});
    assert.equal((await server.api('presence_stats', { channel: 'plain:x' })).num_clients, 0);
  });

  test('more of them than a connection may have end with 3505', async () => {
    const raw = await Raw.open(server.ws);
    raw.send({ id: 1, connect: { token: connectionToken('ann', { channels: range(129).map((n) => `plain:${n}`) }) } });
    assert.equal((await raw.end()).code, 3505);
  });
});

describe('personal channels', () => {
  const config = (more = {}) => ({
    client: { subscribe_to_user_personal_channel: { enabled: true, personal_channel_namespace: 'user', ...more } },
    channel: { namespaces: [{ name: 'user', presence: true, history_size: 10, history_ttl: '60s', force_recovery: true }] },
  });

  forBoth(test, 'every connection of a user has one', async ({ peer, context }) => {
    const server = await startServer(config());
    context.after(() => server.stop());
    const one = peer(server.ws, { token: connectionToken('ann') });
    const two = peer(server.ws, { token: connectionToken('ann') });
    await one.connect();
    await two.connect();
    assert.equal((await one.events.next('subscribed')).channel, 'user:#ann');
    await server.publish('user:#ann', 'for you');
    for (const each of [one, two]) assert.equal(each.unpack((await each.events.next('publication')).data), 'for you');
    await server.publish('user:#bob', 'not for you');
    await server.publish('user:#ann', 'again');
    assert.equal(one.unpack((await one.events.next('publication')).data), 'again');
  });

  forBoth(test, 'single_connection: the newer connection ends the older with 3504', async ({ peer, context }) => {
    const server = await startServer(config({ single_connection: true }));
    context.after(() => server.stop());
    const one = peer(server.ws, { token: connectionToken('ann') });
    await one.connect();
    const other = peer(server.ws, { token: connectionToken('bob') });
    await other.connect();
    const two = peer(server.ws, { token: connectionToken('ann') });
    await two.connect();
    assert.equal((await one.events.next('disconnected')).code, 3504);
    await server.publish('user:#ann', 'for the newer');
    assert.equal(two.unpack((await two.events.next('publication')).data), 'for the newer');
    await server.publish('user:#bob', 'unharmed');
    assert.equal(other.unpack((await other.events.next('publication')).data), 'unharmed');
  });
});
