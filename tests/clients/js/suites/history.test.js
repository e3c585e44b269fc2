// Reading a channel's history, page by page.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { forBoth } from '../lib/client.js';
import { startServer } from '../lib/server.js';
import { connectionToken } from '../lib/tokens.js';
import { eventually } from '../lib/wait.js';

describe('history', () => {
  let server;
  before(async () => {
    server = await startServer({
      client: { history_max_publication_limit: 30 },
      channel: {
        without_namespace: { allow_subscribe_for_client: true },
        namespaces: [
          { name: 'log', allow_subscribe_for_client: true, allow_publish_for_client: true, history_size: 40, history_ttl: '300s', allow_history_for_client: true },
          { name: 'members', allow_subscribe_for_client: true, history_size: 10, history_ttl: '300s', allow_history_for_subscriber: true },
          { name: 'closed', allow_subscribe_for_client: true, history_size: 10, history_ttl: '300s' },
          { name: 'brief', history_size: 10, history_ttl: '1s', allow_history_for_client: true },
        ],
      },
    });
  });
  after(() => server.stop());

  const filled = async (channel, count) => {
    await server.publishAll(channel, Array.from({ length: count }, (_, index) => ({ n: index + 1 })));
  };
  const reader = async (peer) => {
    const one = peer(server.ws, { token: connectionToken('ann') });
    await one.connect();
    return one;
  };
  const numbers = (one, { publications }) => publications.map((each) => one.unpack(each.data).n);
  const range = (from, to) => Array.from({ length: Math.abs(to - from) + 1 }, (_, index) => (from < to ? from + index : from - index));

  forBoth(test, 'limit 0 is the position alone', async ({ peer, encoding }) => {
    const channel = `log:position-${encoding}`;
    const one = await reader(peer);
    const empty = await one.client.history(channel, { limit: 0 });
    assert.equal(empty.offset, 0);
    assert.notEqual(empty.epoch, '');
    await filled(channel, 3);
    const top = await one.client.history(channel, { limit: 0 });
    assert.deepEqual([top.publications.length, top.offset, top.epoch], [0, 3, empty.epoch]);
  });

  forBoth(test, 'forwards in pages', async ({ peer, encoding }) => {
    const channel = `log:pages-${encoding}`;
    await filled(channel, 25);
    const one = await reader(peer);
    const seen = [];
    let since;
    for (;;) {
      const page = await one.client.history(channel, { limit: 10, since });
      assert.equal(page.offset, 25);
      if (page.publications.length === 0) break;
      assert.deepEqual(numbers(one, page), page.publications.map((each) => each.offset));
      seen.push(...numbers(one, page));
      since = { offset: page.publications.at(-1).offset, epoch: page.epoch };
    }
    assert.deepEqual(seen, range(1, 25));
  });

  forBoth(test, 'backwards in pages', async ({ peer, encoding }) => {
    const channel = `log:back-${encoding}`;
    await filled(channel, 25);
    const one = await reader(peer);
    const first = await one.client.history(channel, { limit: 10, reverse: true });
    assert.deepEqual(numbers(one, first), range(25, 16));
    const second = await one.client.history(channel, { limit: 10, reverse: true, since: { offset: 16, epoch: first.epoch } });
    assert.deepEqual(numbers(one, second), range(15, 6));
    await assert.rejects(one.client.history(channel, { limit: 1, reverse: true, since: { offset: 0, epoch: first.epoch } }), { code: 107 });
  });

  forBoth(test, 'bounded by size and by what a client may read at once', async ({ peer, encoding }) => {
    const channel = `log:bounded-${encoding}`;
    await filled(channel, 50);
    const one = await reader(peer);
    const some = await one.client.history(channel, { limit: -1 });
    assert.deepEqual(numbers(one, some), range(11, 40), 'the oldest ten are gone; thirty come at a time');
    assert.deepEqual(numbers(one, await one.client.history(channel, { limit: 1000 })), range(11, 40));
    const rest = await one.client.history(channel, { limit: -1, since: { offset: 40, epoch: some.epoch } });
    assert.deepEqual(numbers(one, rest), range(41, 50));
    const trimmed = await one.client.history(channel, { limit: 2, since: { offset: 3, epoch: some.epoch } });
    assert.deepEqual(numbers(one, trimmed), [11, 12], 'a trimmed position reads what remains');
    const beyond = await one.client.history(channel, { limit: 2, since: { offset: 99, epoch: some.epoch } });
    assert.deepEqual(numbers(one, beyond), []);
    const { publications } = await server.api('history', { channel, limit: -1 });
    assert.equal(publications.length, 40, 'the API reads everything');
  });

  forBoth(test, 'another epoch: 112', async ({ peer, encoding }) => {
    const one = await reader(peer);
    await assert.rejects(one.client.history(`log:epoch-${encoding}`, { limit: 1, since: { offset: 1, epoch: 'zzzzzzzz' } }), { code: 112 });
  });

  forBoth(test, 'says who published', async ({ peer, encoding }) => {
    const one = await reader(peer);
    const channel = `log:who-${encoding}`;
    await one.publish(channel, { n: 1 });
    const { publications } = await one.client.history(channel, { limit: 1 });
    assert.equal(publications[0].info.user, 'ann');
  });

  forBoth(test, 'who may: 103 and 108', async ({ peer }) => {
    const one = await reader(peer);
    await assert.rejects(one.client.history('closed:x', { limit: 1 }), { code: 103 });
    await assert.rejects(one.client.history('members:x', { limit: 1 }), { code: 103 });
    await assert.rejects(one.client.history('plain', { limit: 1 }), { code: 108 });
    await assert.rejects(one.client.history('nowhere:x', { limit: 1 }), { code: 102 });
    const { sub } = await one.subscribe('members:x');
    assert.deepEqual((await sub.history({ limit: 1 })).publications, []);
  });

  forBoth(test, 'ends with its time', async ({ peer, encoding }) => {
    const channel = `brief:${encoding}`;
    await filled(channel, 2);
    const one = await reader(peer);
    await eventually('the history is empty', async () => {
      const { publications, offset } = await one.client.history(channel, { limit: 10 });
      return publications.length === 0 && offset === 2;
    }, { every: 100 });
  });
});
