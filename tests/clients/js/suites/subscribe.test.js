// Who may subscribe, and for how long.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { countingWebSocket, forBoth } from '../lib/client.js';
import { Raw } from '../lib/raw.js';
import { startServer } from '../lib/server.js';
import { connectionToken, seconds, subscriptionToken } from '../lib/tokens.js';

describe('subscribe', () => {
  let server;
  before(async () => {
    server = await startServer({
      client: { expired_sub_close_delay: '3s', presence_update_interval: '1s' },
      channel: {
        without_namespace: {},
        namespaces: [
          { name: 'news', allow_subscribe_for_client: true, presence: true, allow_presence_for_subscriber: true },
          { name: 'letters', allow_subscribe_for_client: true, channel_regex: '^[a-zäöü]+$' },
          { name: 'mine', allow_user_limited_channels: true },
        ],
      },
    });
  });
  after(() => server.stop());
  const token = () => connectionToken('ann');

  forBoth(test, 'where the namespace allows it', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    const news = await one.subscribe('news:today');
    assert.equal(news.first.recoverable, false);
    assert.equal(news.first.positioned, false);
    await server.publish('news:today', { title: 'first' });
    assert.deepEqual(await one.payloads(news, 1), [{ title: 'first' }]);
  });

  const refused = [
    ['without permission', 'closed', 103],
    ['in an unknown namespace', 'nowhere:x', 102],
    ['to a private channel without a token', '$secret', 103],
    ['to a channel of other users', 'mine:room#bob,carl', 103],
    ['with a name that the namespace does not allow', 'letters:123', 107],
    ['with a name that is not ASCII where no rule allows it', 'news:日本', 107],
    ['bad_n1: with a name that is too long', `news:${'x'.repeat(251)}`, 107],
  ];
  for (const [how, channel, code] of refused) {
    forBoth(test, `${how}: ${code}, and the connection stays`, async ({ peer }) => {
      const one = peer(server.ws, { token: token() });
      await one.connect();
      const { sub, events } = one.subscription(channel);
      sub.subscribe();
      assert.equal((await events.next('unsubscribed')).code, code);
      await one.subscribe('news:after');
      assert.equal(one.events.of('connecting').length, 1);
    });
  }

  forBoth(test, 'names at the limit and with letters that a rule allows', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    await one.subscribe(`news:${'x'.repeat(250)}`);
    await one.subscribe('letters:grün');
  });

  forBoth(test, 'to a channel that names the user', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    await one.subscribe('mine:room#ann');
    await one.subscribe('mine:room#bob,ann');
  });

  forBoth(test, 'with a token, which also carries data and info', async ({ peer, unpack }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    const claims = { info: { role: 'editor' }, data: { welcome: 'hé' }, override: { presence: { value: true } } };
    const made = await one.subscribe('$news:secret', { token: subscriptionToken('ann', '$news:secret', claims) });
    assert.deepEqual(unpack(made.first.data), { welcome: 'hé' });
    const { presence } = await server.api('presence', { channel: '$news:secret' });
    assert.deepEqual(Object.values(presence).map((info) => info.chan_info), [{ role: 'editor' }]);
  });

  forBoth(test, 'a token of an expired time is answered with 109, and getToken is asked', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    const asked = [];
    await one.subscribe('$plain', {
      token: subscriptionToken('ann', '$plain', { exp: seconds(-5) }),
      getToken: async ({ channel }) => { asked.push(channel); return subscriptionToken('ann', channel); },
    });
    assert.deepEqual(asked, ['$plain']);
  });

  forBoth(test, 'a token that is not valid: 103', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    const { sub, events } = one.subscription('$plain', { token: subscriptionToken('ann', '$plain', {}, { key: 'another key, not the right one' }) });
    sub.subscribe();
    assert.equal((await events.next('unsubscribed')).code, 103);
  });

  for (const [whose, made] of [
    ['another channel', () => subscriptionToken('ann', '$other')],
    ['another user', () => subscriptionToken('bob', '$plain')],
  ]) {
    forBoth(test, `a token of ${whose} ends the connection with 3500`, async ({ peer }) => {
      const one = peer(server.ws, { token: token() });
      await one.connect();
      one.subscription('$plain', { token: made() }).sub.subscribe();
      assert.equal((await one.events.next('disconnected')).code, 3500);
    });
  }

  forBoth(test, 'a connection token is no subscription token: 103', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    const { sub, events } = one.subscription('$plain', { token: token() });
    sub.subscribe();
    assert.equal((await events.next('unsubscribed')).code, 103);
  });

  forBoth(test, 'a subscription that expires is refreshed and stays', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    let asked = 0;
    let enough;
    const twice = new Promise((resolve) => { enough = resolve; });
    const made = await one.subscribe('$short', {
      getToken: async ({ channel }) => {
        asked += 1;
        if (asked === 3) enough();
        return subscriptionToken('ann', channel, { exp: seconds(3) });
      },
    });
    await twice;
    await server.publish('$short', 'still');
    assert.deepEqual(await one.payloads(made, 1), ['still']);
    assert.equal(made.events.of('subscribing').length, 1, 'it never resubscribed');
  });

  test('a subscription that does not refresh is ended with 2501', { timeout: 20_000 }, async (context) => {
    const raw = await Raw.connect(server.ws, { token: token() }, { pong: true });
    context.after(() => raw.close());
    const reply = await raw.ask({ subscribe: { channel: '$short', token: subscriptionToken('ann', '$short', { exp: seconds(3) }) } });
    assert.equal(reply.subscribe.expires, true);
    const push = await raw.find((message) => message.push?.unsubscribe);
    assert.deepEqual(push, { push: { channel: '$short', unsubscribe: { code: 2501, reason: 'subscription expired' } } });
  });

  forBoth(test, 'unsubscribe and subscribe again', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    const made = await one.subscribe('news:again');
    made.sub.unsubscribe();
    await made.events.next('unsubscribed');
    const { num_clients: left } = await server.api('presence_stats', { channel: 'news:again' });
    made.sub.subscribe();
    await made.events.next('subscribed');
    const { num_clients: back } = await server.api('presence_stats', { channel: 'news:again' });
    assert.equal(back, 1);
    assert.ok(left <= 1);
    await server.publish('news:again', 1);
    assert.deepEqual(await one.payloads(made, 1), [1]);
  });

  forBoth(test, 'a hundred subscriptions in one frame', async ({ peer }) => {
    const websocket = countingWebSocket();
    const one = peer(server.ws, { token: token(), websocket });
    await one.connect();
    const before = websocket.sent.length;
    one.client.startBatching();
    const subs = Array.from({ length: 100 }, (_, index) => one.subscription(`news:batch${index}`));
    for (const { sub } of subs) sub.subscribe();
    one.client.stopBatching();
    await Promise.all(subs.map(({ events }) => events.next('subscribed')));
    assert.equal(websocket.sent.length - before, 1, 'one frame carried them all');
    await server.publish('news:batch99', 'last');
    assert.deepEqual(await one.payloads(subs[99], 1), ['last']);
  });

  forBoth(test, 'subscriptions made before connecting come with it', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    const subs = ['news:a', 'news:b', 'closed'].map((channel) => one.subscription(channel));
    for (const { sub } of subs) sub.subscribe();
    one.client.connect();
    await subs[0].events.next('subscribed');
    await subs[1].events.next('subscribed');
    assert.equal((await subs[2].events.next('unsubscribed')).code, 103);
  });

  forBoth(test, 'the 129th channel: 106', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    one.client.startBatching();
    const subs = Array.from({ length: 128 }, (_, index) => one.subscription(`news:limit${index}`));
    for (const { sub } of subs) sub.subscribe();
    one.client.stopBatching();
    await Promise.all(subs.map(({ events }) => events.next('subscribed')));
    const { sub, events } = one.subscription('news:too-many');
    sub.subscribe();
    assert.equal((await events.next('unsubscribed')).code, 106);
    await server.publish('news:limit127', 'unharmed');
    assert.deepEqual(await one.payloads(subs[127], 1), ['unharmed']);
  });

  forBoth(test, 'a delta where none is allowed: whole publications come', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    const plain = await one.subscribe('news:delta', { delta: 'fossil' });
    for (const value of [{ text: 'a'.repeat(200) }, { text: `${'a'.repeat(200)}b` }]) {
      await server.publish('news:delta', value, { delta: true });
      assert.deepEqual(await one.payloads(plain, 1), [value]);
    }
  });

  test('channel-id compaction that was asked for is not granted', async (context) => {
    const raw = await Raw.connect(server.ws, { token: token() });
    context.after(() => raw.close());
    const reply = await raw.ask({ subscribe: { channel: 'news:compact', flag: 1 } });
    assert.equal(reply.subscribe.id, undefined);
    await server.publish('news:compact', 1);
    const { push } = await raw.find((message) => message.push);
    assert.equal(push.channel, 'news:compact');
    assert.equal(push.id, undefined);
  });

  forBoth(test, 'a tags filter where none is allowed: 107', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    const { sub, events } = one.subscription('news:tagged', { tagsFilter: { key: 'a', cmp: 'eq', val: 'b' } });
    sub.subscribe();
    assert.equal((await events.next('unsubscribed')).code, 107);
  });
});
