// Who is in a channel, and who comes and goes.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { forBoth } from '../lib/client.js';
import { Proxy } from '../lib/proxy.js';
import { startServer } from '../lib/server.js';
import { connectionToken, subscriptionToken } from '../lib/tokens.js';
import { eventually } from '../lib/wait.js';

describe('presence', () => {
  let server;
  before(async () => {
    server = await startServer({
      channel: {
        without_namespace: {},
        namespaces: [
          { name: 'room', allow_subscribe_for_client: true, presence: true, join_leave: true, allow_presence_for_subscriber: true },
          { name: 'forced', allow_subscribe_for_client: true, presence: true, join_leave: true, force_push_join_leave: true },
          { name: 'hidden', allow_subscribe_for_client: true, presence: true },
          { name: 'none', allow_subscribe_for_client: true },
        ],
      },
    });
  });
  after(() => server.stop());
  const token = (user) => connectionToken(user, { info: { name: user } });

  forBoth(test, 'lists who is there, by connection', async ({ peer, encoding, unpack }) => {
    const channel = `room:list-${encoding}`;
    const peers = ['ann', 'ann', 'bob'].map((user) => peer(server.ws, { token: token(user) }));
    const ids = [];
    for (const each of peers) {
      ids.push((await each.connect()).client);
      await each.subscribe(channel);
    }
    const { clients } = await peers[0].client.presence(channel);
    assert.deepEqual(Object.keys(clients).sort(), [...ids].sort());
    for (const [id, info] of Object.entries(clients)) {
      assert.equal(info.client, id);
      assert.deepEqual(unpack(info.connInfo), { name: info.user });
    }
    const stats = await peers[2].client.presenceStats(channel);
    assert.equal(stats.numClients, 3);
    assert.equal(stats.numUsers, 2);
  });

  forBoth(test, 'carries the info of a subscription token', async ({ peer, encoding, unpack }) => {
    const channel = `room:info-${encoding}`;
    const one = peer(server.ws, { token: token('ann') });
    const { client } = await one.connect();
    await one.subscribe(channel, { token: subscriptionToken('ann', channel, { info: { seat: 4 } }) });
    const { clients } = await one.client.presence(channel);
    assert.deepEqual(unpack(clients[client].chanInfo), { seat: 4 });
  });

  forBoth(test, 'inv_p2: is told to nobody without the right', async ({ peer }) => {
    const one = peer(server.ws, { token: token('ann') });
    await one.connect();
    await assert.rejects(one.client.presence('room:outside'), { code: 103 });
    await assert.rejects(one.client.presenceStats('room:outside'), { code: 103 });
    await one.subscribe('hidden:x');
    await assert.rejects(one.client.presence('hidden:x'), { code: 103 });
    await one.subscribe('none:x');
    await assert.rejects(one.client.presence('none:x'), { code: 108 });
    await assert.rejects(one.client.presenceStats('none:x'), { code: 108 });
    await assert.rejects(one.client.presence('nowhere:x'), { code: 102 });
  });

  forBoth(test, 'joins and leaves, in the order of one client', async ({ peer, encoding, unpack }) => {
    const channel = `room:join-${encoding}`;
    const ann = peer(server.ws, { token: token('ann') });
    await ann.connect();
    const hers = await ann.subscribe(channel, { joinLeave: true });
    const own = await hers.events.next('join');
    assert.equal(own.info.user, 'ann');
    const bob = peer(server.ws, { token: token('bob') });
    const { client } = await bob.connect();
    for (let round = 0; round < 3; round += 1) {
      const his = round === 0 ? await bob.subscribe(channel) : bob.client.getSubscription(channel);
      if (round > 0) his.subscribe();
      const joined = await hers.events.next();
      assert.equal(joined.name, 'join');
      assert.equal(joined.info.client, client);
      assert.equal(joined.info.user, 'bob');
      assert.deepEqual(unpack(joined.info.connInfo), { name: 'bob' });
      bob.client.getSubscription(channel).unsubscribe();
      const left = await hers.events.next();
      assert.equal(left.name, 'leave');
      assert.equal(left.info.client, client);
    }
  });

  forBoth(test, 'only to those who asked, unless the namespace pushes to all', async ({ peer, encoding }) => {
    const ann = peer(server.ws, { token: token('ann') });
    const bob = peer(server.ws, { token: token('bob') });
    await ann.connect();
    await bob.connect();
    const quiet = await ann.subscribe(`room:quiet-${encoding}`);
    const loud = await ann.subscribe(`forced:loud-${encoding}`);
    assert.equal((await loud.events.next('join')).info.user, 'ann');
    await bob.subscribe(`room:quiet-${encoding}`);
    await bob.subscribe(`forced:loud-${encoding}`);
    assert.equal((await loud.events.next('join')).info.user, 'bob');
    // The quiet channel's join came before that one; a publication behind both shows that nothing is on its way.
    await server.publish(`room:quiet-${encoding}`, 'end');
    assert.equal((await quiet.events.next()).name, 'publication');
  });

  forBoth(test, 'inv_p1: a lost connection leaves, one that closes leaves', async ({ peer, encoding, context }) => {
    const channel = `room:lost-${encoding}`;
    const proxy = await Proxy.to(server.port);
    context.after(() => proxy.close());
    const ann = peer(server.ws, { token: token('ann') });
    await ann.connect();
    const hers = await ann.subscribe(channel, { joinLeave: true });
    await hers.events.next('join');
    for (const how of ['cut', 'disconnect']) {
      const bob = peer(proxy.ws, { token: token('bob') });
      const { client } = await bob.connect();
      await bob.subscribe(channel);
      assert.equal((await hers.events.next('join')).info.client, client);
      if (how === 'cut') proxy.down();
      else bob.close();
      const left = await hers.events.next();
      assert.equal(left.name, 'leave', how);
      assert.equal(left.info.client, client);
      bob.close();
      proxy.restore();
      await eventually('presence has only the one who stayed', async () =>
        (await server.api('presence_stats', { channel })).num_clients === 1);
    }
  });
});
