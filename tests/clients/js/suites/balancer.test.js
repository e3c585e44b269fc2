// Three nodes on Redis behind HAProxy with the configuration that the documentation shows.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Peer } from '../lib/client.js';
import { Balancer } from '../lib/haproxy.js';
import { Redis } from '../lib/redis.js';
import { API_KEY, startServer } from '../lib/server.js';
import { connectionToken } from '../lib/tokens.js';
import { eventually } from '../lib/wait.js';

const NAMES = ['node1', 'node2', 'node3'];
const SPREAD_MS = 1500;
const range = (count, from = 1) => Array.from({ length: count }, (_, index) => from + index);

describe('three nodes behind HAProxy with docs/haproxy.cfg', { timeout: 120_000 }, () => {
  let redis;
  let nodes;
  let balancer;
  const peers = [];

  const startNode = (name, port) => startServer({
    node: { name },
    engine: { type: 'redis', redis: { address: redis.address } },
    shutdown: { spread: `${SPREAD_MS}ms` },
    channel: {
      without_namespace: {},
      namespaces: [
        { name: 'log', allow_subscribe_for_client: true, history_size: 1000, history_ttl: '300s', force_recovery: true },
      ],
    },
  }, { port });

  before(async () => {
    redis = await Redis.start();
    nodes = await Promise.all(NAMES.map((name) => startNode(name)));
    balancer = await Balancer.before(nodes.map((node) => node.port));
  });
  after(async () => {
    for (const peer of peers) peer.close();
    await balancer?.stop();
    await Promise.all((nodes ?? []).map((node) => node.stop('SIGKILL')));
    await redis?.stop();
  });

  /** One more client, connected; the encodings take turns. */
  const join = async () => {
    const name = `user-${peers.length}`;
    const peer = new Peer(peers.length % 2 ? 'json' : 'protobuf', balancer.ws, { token: connectionToken(name) });
    peers.push(peer);
    await peer.connect();
    return peer;
  };
  const joinAll = async (count) => {
    for (let left = count; left > 0; left -= 1) await join();
  };
  /** Connections of each node, as it says itself. */
  const counts = () => Promise.all(nodes.map((node) => node.metric('tidewire_connections')));
  const balanced = (...wanted) => eventually(`connections are ${wanted}`, async () => {
    const now = await counts();
    if (String(now) !== String(wanted)) throw new Error(`they are ${now}`);
    return true;
  });

  test('connections are shared out by their number', async () => {
    await joinAll(30);
    assert.deepEqual(await counts(), [10, 10, 10]);
    for (const node of nodes) {
      await eventually('every node knows how many the others have', async () => {
        const told = (await node.api('info')).nodes.map((each) => [each.name, each.num_clients]);
        return JSON.stringify(told.sort()) === JSON.stringify(NAMES.map((name) => [name, 10]));
      }, { timeout: 15_000 });
    }
  });

  test('a node that has fewer gets the next ones, until it has as many', async () => {
    await balancer.set('node2', 'drain');
    await balancer.set('node3', 'drain');
    await joinAll(4);
    assert.deepEqual(await counts(), [14, 10, 10]);
    await balancer.set('node2', 'ready');
    await balancer.set('node3', 'ready');
    await joinAll(8);
    assert.deepEqual(await counts(), [14, 14, 14]);
  });

  test('clients reach nothing but connections, backends nothing but the API', async () => {
    for (const path of ['/', '/api/info', '/metrics', '/health/ready', '/connection', '/CONNECTION/websocket']) {
      assert.equal((await fetch(`${balancer.http}${path}`)).status, 404, path);
    }
    assert.equal((await fetch(balancer.api.replace('/api', '/metrics'))).status, 404);
    assert.equal((await fetch(`${balancer.api}/info`, { method: 'POST', body: '{}' })).status, 401);
  });

  /** Publishes through the port for backends. */
  const publish = async (channel, data) => {
    const headers = { 'X-API-Key': API_KEY };
    const response = await fetch(`${balancer.api}/publish`, { method: 'POST', headers, body: JSON.stringify({ channel, data }) });
    const answer = await response.json();
    assert.ok(answer.result, JSON.stringify(answer));
    return answer.result.offset;
  };

  test('inv_d3: what is published through any node reaches the readers of all nodes, in one order', async () => {
    const channel = 'log:all';
    const subscriptions = await Promise.all(peers.map((peer) => peer.subscribe(channel)));
    const ways = [...nodes.map((node) => (data) => node.publish(channel, data)), (data) => publish(channel, data)];
    await Promise.all(ways.map(async (way, from) => {
      for (const number of range(25)) await way({ from, number });
    }));
    const all = await Promise.all(subscriptions.map((subscription) => subscription.events.take('publication', 100)));
    const [first, ...others] = all.map((events, at) => events.map((event) => [event.offset, peers[at].unpack(event.data)]));
    assert.deepEqual(first.map(([offset]) => offset), range(100));
    for (const from of range(4, 0)) {
      assert.deepEqual(first.map(([, data]) => data).filter((data) => data.from === from).map((data) => data.number), range(25));
    }
    for (const other of others) assert.deepEqual(other, first);
  });

  test('inv_d1 inv_g1: a node is drained and stopped, and no client misses anything', async () => {
    const channel = 'log:drain';
    const subscriptions = await Promise.all(peers.map((peer) => peer.subscribe(channel)));
    let published = 0;
    let enough = false;
    const publisher = (async () => {
      while (!enough) published = await publish(channel, published + 1);
    })();

    await balancer.set('node1', 'drain');
    await joinAll(6);
    assert.deepEqual(await counts(), [14, 17, 17], 'a drained node gets no new clients and keeps those it has');
    const moved = nodes[0].stop();
    const before = published;
    const how = await moved;
    assert.deepEqual(how, { code: 0, signal: null });
    nodes[0].metric = async () => 0;
    await balanced(0, 24, 24);
    assert.ok(published > before, 'publishing went on meanwhile');
    enough = true;
    await publisher;

    const gone = [];
    for (const [at, { events }] of subscriptions.entries()) {
      const got = await events.take('publication', published);
      assert.deepEqual(got.map((event) => event.offset), range(published));
      assert.deepEqual(got.map((event) => peers[at].unpack(event.data)), range(published));
      const again = events.of('subscribed').slice(1);
      assert.ok(again.every((event) => event.wasRecovering && event.recovered));
      if (again.length > 0) gone.push(peers[at]);
    }
    assert.equal(gone.length, 14, 'the clients of the node that went, and no others');
    assert.ok(gone.every((peer) => peer.events.of('connecting').at(-1).code === 3001));
  });

  test('a node that is started again is found, and gets clients until it has as many', async () => {
    nodes[0] = await startNode('node1', nodes[0].port);
    await balancer.set('node1', 'ready');
    await eventually('HAProxy finds it ready', async () => (await balancer.nodes()).node1.status === 'UP');
    await joinAll(24);
    assert.deepEqual(await counts(), [24, 24, 24]);
  });

  test('no connection is refused while a node stops that was not drained', async () => {
    const port = nodes[1].port;
    const stopped = nodes[1].stop();
    await joinAll(20);
    await stopped;
    nodes[1].metric = async () => 0;
    await eventually('everybody is back', async () => (await counts()).reduce((sum, count) => sum + count) === peers.length);
    // One that was upgraded at the last moment may be sent on before it is connected, and says so as code 11.
    const refused = (peer) => peer.events.all.filter((event) => event.name === 'error' && event.error.code !== 11);
    for (const peer of peers.slice(-20)) assert.deepEqual(refused(peer), []);
    nodes[1] = await startNode('node2', port);
    await eventually('HAProxy finds it ready', async () => (await balancer.nodes()).node2.status === 'UP');
  });

  test('a node that is killed is left out, and its clients come back through the others', async () => {
    await nodes[2].stop('SIGKILL');
    nodes[2].metric = async () => 0;
    await eventually('everybody is back', async () => (await counts()).reduce((sum, count) => sum + count) === peers.length);
    await eventually('HAProxy has noticed', async () => (await balancer.nodes()).node3.status === 'DOWN');
    await joinAll(3);
  });
});
