// Connections that are lost, and what is missed meanwhile.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { forBoth } from '../lib/client.js';
import { Proxy } from '../lib/proxy.js';
import { Raw } from '../lib/raw.js';
import { freePort, startServer } from '../lib/server.js';
import { connectionToken } from '../lib/tokens.js';
import { eventually } from '../lib/wait.js';

const RETAINED = 60;
const config = {
  channel: {
    without_namespace: {},
    namespaces: [
      { name: 'log', allow_subscribe_for_client: true, history_size: RETAINED, history_ttl: '300s', force_recovery: true },
      { name: 'wide', allow_subscribe_for_client: true, history_size: 1000, history_ttl: '300s', force_recovery: true },
      { name: 'asked', allow_subscribe_for_client: true, history_size: RETAINED, history_ttl: '300s', allow_recovery: true, allow_positioning: true },
      { name: 'cache', allow_subscribe_for_client: true, history_size: 5, history_ttl: '300s', force_recovery: true, force_recovery_mode: 'cache' },
      { name: 'eager', allow_subscribe_for_client: true, history_size: 1, history_ttl: '300s', force_recovery: true, force_recovery_mode: 'cache', auto_cache_recover: true },
      { name: 'plain', allow_subscribe_for_client: true },
      { name: 'brief', allow_subscribe_for_client: true, history_size: 10, history_ttl: '1s', history_meta_ttl: '1s', force_recovery: true },
    ],
  },
};
const range = (count, from = 1) => Array.from({ length: count }, (_, index) => from + index);
const token = () => connectionToken('ann');

describe('recovery', () => {
  let server;
  before(async () => { server = await startServer(config); });
  after(() => server.stop());

  /** A client behind a proxy of its own. */
  const behind = async (peer, context) => {
    const proxy = await Proxy.to(server.port);
    context.after(() => proxy.close());
    const one = peer(proxy.ws, { token: token() });
    await one.connect();
    return { proxy, one };
  };

  for (const missed of [0, 1, 50, RETAINED]) {
    forBoth(test, `inv_d1: ${missed} missed publications come back, each once and in order`, async ({ peer, context, encoding }) => {
      const channel = `log:missed-${missed}-${encoding}`;
      const { proxy, one } = await behind(peer, context);
      const made = await one.subscribe(channel);
      assert.equal(made.first.recoverable, true);
      assert.equal(made.first.wasRecovering, false);
      await server.publishAll(channel, range(3));
      assert.deepEqual(await one.payloads(made, 3), range(3));
      proxy.down();
      await one.events.next('connecting');
      await server.publishAll(channel, range(missed, 4));
      proxy.restore();
      const again = await made.events.next('subscribed');
      assert.equal(again.wasRecovering, true);
      assert.equal(again.recovered, true);
      assert.equal(again.hasRecoveredPublications, missed > 0);
      await server.publishAll(channel, range(2, 4 + missed));
      const events = await made.events.take('publication', missed + 2);
      assert.deepEqual(events.map((event) => event.offset), range(missed + 2, 4));
      assert.deepEqual(events.map((event) => one.unpack(event.data)), range(missed + 2, 4));
    });
  }

  for (const [what, namespace, missed] of [['retained', 'log', RETAINED + 1], ['a recovery may bring', 'wide', 301]]) {
    forBoth(test, `inv_d2: more than ${what}: told so, nothing partial`, async ({ peer, context, encoding }) => {
      const channel = `${namespace}:more-${encoding}`;
      const { proxy, one } = await behind(peer, context);
      const made = await one.subscribe(channel);
      await server.publishAll(channel, [1]);
      await one.payloads(made, 1);
      proxy.down();
      await one.events.next('connecting');
      await server.publishAll(channel, range(missed, 2));
      proxy.restore();
      const again = await made.events.next('subscribed');
      assert.deepEqual([again.wasRecovering, again.recovered, again.hasRecoveredPublications], [true, false, false]);
      assert.equal(again.streamPosition.offset, missed + 1);
      await server.publishAll(channel, ['live']);
      const next = await made.events.next('publication');
      assert.equal(one.unpack(next.data), 'live');
      assert.equal(next.offset, missed + 2);
    });
  }

  forBoth(test, 'inv_d2: exactly what a recovery may bring is brought', async ({ peer, context, encoding }) => {
    const channel = `wide:exact-${encoding}`;
    const { proxy, one } = await behind(peer, context);
    const made = await one.subscribe(channel);
    proxy.down();
    await one.events.next('connecting');
    await server.publishAll(channel, range(300));
    proxy.restore();
    assert.equal((await made.events.next('subscribed')).recovered, true);
    assert.deepEqual(await one.payloads(made, 300), range(300));
  });

  forBoth(test, 'inv_d1: cut at many bytes of a flow, nothing is lost or doubled', async ({ peer, context, encoding }) => {
    const channel = `wide:flow-${encoding}`;
    const { proxy, one } = await behind(peer, context);
    const made = await one.subscribe(channel);
    const rounds = 60;
    const each = 20;
    let seed = 0x2545f491;
    const random = (below) => {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      return seed % below;
    };
    for (let round = 0; round < rounds; round += 1) {
      // Small numbers cut inside a frame's header, large ones between frames or inside the next handshake.
      proxy.cutAfter(1 + random(1500));
      await server.publishAll(channel, range(each, 1 + round * each).map((n) => ({ n, pad: 'x'.repeat(random(40)) })));
      if (round % 4 === 3) {
        const events = await made.events.take('publication', each * 4);
        assert.deepEqual(events.map((event) => event.offset), range(each * 4, 1 + (round - 3) * each), `after round ${round}`);
        assert.deepEqual(events.map((event) => one.unpack(event.data).n), events.map((event) => event.offset));
      }
    }
    proxy.cutAfter(Infinity);
    assert.equal(made.events.of('publication').length, rounds * each);
    assert.ok(made.events.of('subscribed').every((event, index) => index === 0 || event.recovered));
    assert.ok(proxy.accepted > rounds / 4, `${proxy.accepted} connections`);
  }, { timeout: 120_000 });

  forBoth(test, 'many lost connections at once recover', async ({ peer, context, encoding }) => {
    const channel = `log:herd-${encoding}`;
    const proxy = await Proxy.to(server.port);
    context.after(() => proxy.close());
    const herd = await Promise.all(range(40).map(async () => {
      const one = peer(proxy.ws, { token: token() });
      await one.connect();
      return { one, made: await one.subscribe(channel) };
    }));
    proxy.down();
    await server.publishAll(channel, range(20));
    proxy.restore();
    for (const { one, made } of herd) assert.deepEqual(await one.payloads(made, 20), range(20));
  });

  forBoth(test, 'recoverable and positioned are granted where they are allowed', async ({ peer, context, encoding }) => {
    const channel = `asked:x-${encoding}`;
    const { proxy, one } = await behind(peer, context);
    const made = await one.subscribe(channel, { recoverable: true });
    assert.deepEqual([made.first.recoverable, made.first.positioned], [true, true]);
    const position = await one.subscribe(`${channel}-positioned`, { positioned: true });
    assert.deepEqual([position.first.recoverable, position.first.positioned], [false, true]);
    const neither = await one.subscribe('plain:x', { recoverable: true, positioned: true });
    assert.deepEqual([neither.first.recoverable, neither.first.positioned], [false, false]);
    proxy.down();
    await one.events.next('connecting');
    await server.publish(channel, 1);
    proxy.restore();
    assert.equal((await made.events.next('subscribed')).recovered, true);
    assert.deepEqual(await one.payloads(made, 1), [1]);
  });

  forBoth(test, 'from a position that the application kept', async ({ peer, encoding }) => {
    const channel = `log:since-${encoding}`;
    await server.publishAll(channel, range(10));
    const { epoch } = await server.api('history', { channel });
    const one = peer(server.ws, { token: token() });
    await one.connect();
    const made = await one.subscribe(channel, { since: { offset: 6, epoch } });
    assert.equal(made.first.recovered, true);
    assert.deepEqual(await one.payloads(made, 4), [7, 8, 9, 10]);
    made.sub.unsubscribe();
    one.client.removeSubscription(made.sub);
    const whole = await one.subscribe(channel, { since: { offset: 0, epoch: '' } });
    assert.equal(whole.first.recovered, true);
    assert.deepEqual(await one.payloads(whole, 10), range(10));
  });

  forBoth(test, 'inv_d2: a position of another epoch is not recovered', async ({ peer, encoding }) => {
    const channel = `log:epoch-${encoding}`;
    await server.publishAll(channel, range(3));
    const one = peer(server.ws, { token: token() });
    await one.connect();
    const made = await one.subscribe(channel, { since: { offset: 1, epoch: 'anotherone' } });
    assert.deepEqual([made.first.wasRecovering, made.first.recovered], [true, false]);
    assert.equal(made.first.streamPosition.offset, 3);
  });

  forBoth(test, 'inv_d2: an application that loads its own state is asked for it again (112)', async ({ peer, context, encoding }) => {
    const channel = `log:state-${encoding}`;
    await server.publishAll(channel, range(5));
    const { proxy, one } = await behind(peer, context);
    let loads = 0;
    const made = await one.subscribe(channel, {
      getState: async () => {
        loads += 1;
        const { offset, epoch } = await server.api('history', { channel });
        return { offset, epoch };
      },
    });
    assert.equal(loads, 1);
    await server.publish(channel, 6);
    assert.deepEqual(await one.payloads(made, 1), [6]);
    proxy.down();
    await one.events.next('connecting');
    await server.publishAll(channel, range(RETAINED + 10, 7));
    proxy.restore();
    const again = await made.events.next('subscribed');
    assert.equal(loads, 2);
    assert.equal(again.recovered, true);
    await server.publish(channel, 'live');
    assert.deepEqual(await one.payloads(made, 1), ['live']);
  });

  forBoth(test, 'cache recovery brings the newest alone', async ({ peer, context, encoding }) => {
    const channel = `cache:x-${encoding}`;
    const { proxy, one } = await behind(peer, context);
    const made = await one.subscribe(channel);
    proxy.down();
    await one.events.next('connecting');
    await server.publishAll(channel, range(30));
    proxy.restore();
    const again = await made.events.next('subscribed');
    assert.deepEqual([again.wasRecovering, again.recovered], [true, true]);
    assert.deepEqual(await one.payloads(made, 1), [30]);
    proxy.down();
    await one.events.next('connecting');
    proxy.restore();
    assert.equal((await made.events.next('subscribed')).recovered, true);
    await server.publish(channel, 31);
    assert.deepEqual(await one.payloads(made, 1), [31], 'nothing twice when nothing was missed');
  });

  forBoth(test, 'with auto_cache_recover a new subscriber gets the newest', async ({ peer, encoding }) => {
    const channel = `eager:x-${encoding}`;
    await server.publishAll(channel, range(3));
    const one = peer(server.ws, { token: token() });
    await one.connect();
    const made = await one.subscribe(channel);
    assert.equal(made.first.wasRecovering, true);
    assert.equal(made.first.recovered, true);
    assert.deepEqual(await one.payloads(made, 1), [3]);
  });

  forBoth(test, 'inv_d2: a stream that began anew under a subscriber ends it with 2500, and it comes back told', async ({ peer, encoding }) => {
    const channel = `brief:x-${encoding}`;
    const one = peer(server.ws, { token: token() });
    await one.connect();
    const made = await one.subscribe(channel);
    const { epoch } = await server.publish(channel, 1);
    await one.payloads(made, 1);
    await eventually('the stream has another epoch', async () => (await server.publish(channel, 2)).epoch !== epoch,
      { every: 2500, timeout: 15_000 });
    await eventually('the subscription was ended with 2500', () => made.events.of('subscribing').some((event) => event.code === 2500));
    const again = await eventually('it is subscribed again', () => made.events.of('subscribed').find((event) => event.wasRecovering));
    assert.equal(again.recovered, false);
    assert.equal(one.events.of('connecting').length, 1, 'the connection stayed');
  });

  forBoth(test, 'without history there is nothing to recover, and nobody says so', async ({ peer, context, encoding }) => {
    const channel = `plain:x-${encoding}`;
    const { proxy, one } = await behind(peer, context);
    const made = await one.subscribe(channel);
    proxy.down();
    await one.events.next('connecting');
    await server.publish(channel, 'missed');
    proxy.restore();
    const again = await made.events.next('subscribed');
    assert.deepEqual([again.wasRecovering, again.recovered], [false, false]);
    await server.publish(channel, 'seen');
    assert.deepEqual(await one.payloads(made, 1), ['seen']);
  });

  test('the frames of a recovery, as the protocol writes them', async (context) => {
    await server.publishAll('log:frames', range(3));
    const { epoch } = await server.api('history', { channel: 'log:frames' });
    const raw = await Raw.connect(server.ws, { token: token() });
    context.after(() => raw.close());
    const reply = await raw.ask({ subscribe: { channel: 'log:frames', recover: true, epoch, offset: 1 } });
    assert.deepEqual(reply.subscribe, {
      recoverable: true, positioned: true, epoch, offset: 1, recovered: true, was_recovering: true,
      publications: [{ data: 2, offset: 2 }, { data: 3, offset: 3 }],
    });
  });
});

describe('recovery across a restart of the server', () => {
  forBoth(test, 'inv_d2: what was only in memory is gone, and the client is told', async ({ peer, context }) => {
    const port = await freePort();
    const first = await startServer(config, { port });
    context.after(() => first.stop('SIGKILL'));
    const one = peer(first.ws, { token: token() });
    await one.connect();
    const made = await one.subscribe('log:restart');
    await first.publishAll('log:restart', range(5));
    await one.payloads(made, 5);
    await first.stop('SIGKILL');
    const second = await startServer(config, { port });
    context.after(() => second.stop());
    const again = await made.events.next('subscribed');
    assert.deepEqual([again.wasRecovering, again.recovered], [true, false]);
    await second.publish('log:restart', 'live');
    assert.deepEqual(await one.payloads(made, 1), ['live']);
  });

  forBoth(test, 'a graceful stop asks clients to come back (3001) and exits 0', async ({ peer }) => {
    const server = await startServer({ ...config, shutdown: { timeout: '5s' } });
    const peers = [];
    for (let index = 0; index < 5; index += 1) {
      const one = peer(server.ws, { token: token() });
      await one.connect();
      peers.push(one);
    }
    const left = server.stop();
    for (const one of peers) {
      const event = await one.events.next('connecting');
      assert.equal(event.code, 3001);
      one.close();
    }
    assert.deepEqual(await left, { code: 0, signal: null });
  });
});
