// What a backend does to clients through the HTTP API, and the API's own answers.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { forBoth } from '../lib/client.js';
import { Raw } from '../lib/raw.js';
import { API_KEY, startServer } from '../lib/server.js';
import { connectionToken, seconds } from '../lib/tokens.js';

describe('HTTP API', () => {
  let server;
  before(async () => {
    server = await startServer({
      channel: {
        without_namespace: { allow_subscribe_for_client: true },
        namespaces: [{ name: 'log', allow_subscribe_for_client: true, presence: true, history_size: 10, history_ttl: '60s' }],
      },
    });
  });
  after(() => server.stop());

  forBoth(test, 'disconnect is 3503 and final', async ({ peer, encoding }) => {
    const user = `default-${encoding}`;
    const one = peer(server.ws, { token: connectionToken(user) });
    await one.connect();
    await server.api('disconnect', { user });
    const event = await one.events.next('disconnected');
    assert.deepEqual([event.code, event.reason], [3503, 'force disconnect']);
  });

  for (const [code, name] of [[4000, 'connecting'], [4499, 'connecting'], [4500, 'disconnected'], [4999, 'disconnected'], [3001, 'connecting']]) {
    forBoth(test, `disconnect with ${code} leads to ${name}`, async ({ peer, encoding }) => {
      const user = `custom-${code}-${encoding}`;
      const one = peer(server.ws, { token: connectionToken(user) });
      await one.connect();
      await server.api('disconnect', { user, disconnect: { code, reason: 'because of us' } });
      const event = await one.events.next(name);
      const told = event.code === 0 ? await one.events.next(name) : event;
      assert.deepEqual([told.code, told.reason], [code, 'because of us']);
      if (name === 'connecting') await one.events.next('connected');
    });
  }

  forBoth(test, 'disconnect by client, and all but some', async ({ peer, encoding }) => {
    const user = `some-${encoding}`;
    const peers = [];
    for (let index = 0; index < 3; index += 1) {
      const one = peer(server.ws, { token: connectionToken(user) });
      peers.push({ one, id: (await one.connect()).client });
    }
    await server.api('disconnect', { user, client: peers[0].id });
    assert.equal((await peers[0].one.events.next('disconnected')).code, 3503);
    await server.api('disconnect', { user, whitelist: [peers[1].id] });
    assert.equal((await peers[2].one.events.next('disconnected')).code, 3503);
    await peers[1].one.subscribe('still-here');
  });

  forBoth(test, 'unsubscribe is 2000 and final', async ({ peer, encoding }) => {
    const user = `unsubscribed-${encoding}`;
    const one = peer(server.ws, { token: connectionToken(user) });
    await one.connect();
    const made = await one.subscribe('room');
    const other = await one.subscribe('other');
    await server.api('unsubscribe', { user, channel: 'room' });
    const event = await made.events.next('unsubscribed');
    assert.deepEqual([event.code, event.reason], [2000, 'server unsubscribe']);
    await server.publish('room', 'unheard');
    await server.publish('other', 'heard');
    assert.deepEqual(await one.payloads(other, 1), ['heard']);
    assert.equal(made.events.of('publication').length, 0);
  });

  forBoth(test, 'unsubscribe without a channel is from all', async ({ peer, encoding }) => {
    const user = `all-${encoding}`;
    const one = peer(server.ws, { token: connectionToken(user) });
    await one.connect();
    const subs = [await one.subscribe('all-a'), await one.subscribe('all-b')];
    await server.api('unsubscribe', { user });
    for (const made of subs) assert.equal((await made.events.next('unsubscribed')).code, 2000);
  });

  forBoth(test, 'broadcast reaches every channel', async ({ peer, encoding }) => {
    const channels = ['one', 'log:two'].map((name) => `${name}-${encoding}`);
    const one = peer(server.ws, { token: connectionToken('ann') });
    await one.connect();
    const made = [];
    for (const channel of channels) made.push(await one.subscribe(channel));
    const { responses } = await server.api('broadcast', { channels: [...channels, 'nowhere:x'], data: { to: 'all' } });
    for (const each of made) assert.deepEqual(await one.payloads(each, 1), [{ to: 'all' }]);
    assert.deepEqual(responses[0], { result: {} });
    assert.equal(responses[1].result.offset, 1);
    assert.equal(responses[2].error.code, 102);
  });

  forBoth(test, 'inv_d5: an idempotency key publishes once', async ({ peer, encoding }) => {
    const channel = `log:once-${encoding}`;
    const one = peer(server.ws, { token: connectionToken('ann') });
    await one.connect();
    const made = await one.subscribe(channel);
    const results = [];
    for (const data of ['first', 'again']) results.push(await server.publish(channel, data, { idempotency_key: 'k' }));
    assert.deepEqual(results[0], results[1]);
    await server.publish(channel, 'next');
    assert.deepEqual(await one.payloads(made, 2), ['first', 'next']);
  });

  forBoth(test, 'a version that is not newer is suppressed', async ({ peer, encoding }) => {
    const channel = `log:version-${encoding}`;
    const one = peer(server.ws, { token: connectionToken('ann') });
    await one.connect();
    const made = await one.subscribe(channel);
    for (const version of [2, 1, 2, 3]) await server.publish(channel, version, { version });
    assert.deepEqual(await one.payloads(made, 2), [2, 3]);
  });

  forBoth(test, 'skip_history delivers and keeps nothing', async ({ peer, encoding }) => {
    const channel = `log:skip-${encoding}`;
    const one = peer(server.ws, { token: connectionToken('ann') });
    await one.connect();
    const made = await one.subscribe(channel);
    await server.publish(channel, 'gone', { skip_history: true });
    assert.deepEqual(await one.payloads(made, 1), ['gone']);
    assert.deepEqual((await server.api('history', { channel, limit: 10 })).publications, []);
  });

  test('refresh gives a connection more or less time', { timeout: 20_000 }, async (context) => {
    const raw = await Raw.connect(server.ws, { token: connectionToken('timed') });
    context.after(() => raw.close());
    await server.api('refresh', { user: 'timed', expire_at: seconds(500) });
    const { push } = await raw.find((message) => message.push?.refresh);
    assert.equal(push.refresh.expires, true);
    assert.ok(push.refresh.ttl > 490 && push.refresh.ttl <= 500);
    await server.api('refresh', { user: 'timed', expired: true });
    assert.equal((await raw.end()).code, 3005);
  });

  test('presence, presence_stats, history, history_remove, channels, info', async (context) => {
    const raw = await Raw.connect(server.ws, { token: connectionToken('ann', { info: { a: 1 } }) });
    context.after(() => raw.close());
    const channel = 'log:all';
    await raw.ask({ subscribe: { channel } });
    assert.deepEqual(await server.api('presence', { channel }), {
      presence: { [raw.client]: { user: 'ann', client: raw.client, conn_info: { a: 1 } } },
    });
    assert.deepEqual(await server.api('presence_stats', { channel }), { num_clients: 1, num_users: 1 });
    const { epoch } = await server.publish(channel, { n: 1 });
    assert.deepEqual(await server.api('history', { channel, limit: -1 }), {
      publications: [{ data: { n: 1 }, offset: 1 }], offset: 1, epoch,
    });
    assert.deepEqual(await server.api('history_remove', { channel }), {});
    assert.deepEqual(await server.api('history', { channel, limit: -1 }), { publications: [], offset: 1, epoch });
    const { channels } = await server.api('channels', { pattern: 'log:al*' });
    assert.deepEqual(channels, { [channel]: { num_clients: 1 } });
    const { nodes } = await server.api('info');
    assert.equal(nodes.length, 1);
    assert.ok(nodes[0].num_clients >= 1);
    assert.equal(typeof nodes[0].uid, 'string');
  });

  test('batch answers in order', async () => {
    const answer = await server.call('batch', {
      commands: [{ publish: { channel: 'log:batch', data: 1 } }, { history: { channel: 'log:batch', limit: 1 } }, { nothing: {} },
        { publish: { channel: '', data: 1 } }],
    });
    assert.equal(answer.replies.length, 4);
    assert.equal(answer.replies[0].publish.offset, 1);
    assert.equal(answer.replies[1].history.publications.length, 1);
    assert.equal(answer.replies[2].error.code, 104);
    assert.equal(answer.replies[3].error.code, 107);
  });

  const table = [
    ['publish', { channel: '', data: 1 }, 107],
    ['publish', { channel: 'nowhere:x', data: 1 }, 102],
    ['publish', { channel: 'x', b64data: '!' }, 107],
    ['broadcast', { channels: [], data: 1 }, 107],
    ['presence', { channel: 'x' }, 108],
    ['presence_stats', { channel: 'x' }, 108],
    ['history', { channel: 'x' }, 108],
    ['history', { channel: 'log:x', limit: 1, since: { offset: 1, epoch: 'zzz' } }, 112],
    ['history_remove', { channel: 'x' }, 108],
    ['subscribe', { user: 'u', channel: 'nowhere:x' }, 102],
    ['subscribe', { user: 'u', channel: '' }, 107],
    ['rpc', { method: 'unknown' }, 104],
    ['rpc', { method: '' }, 107],
  ];
  for (const [method, params, code] of table) {
    test(`bad_a1: ${method} ${JSON.stringify(params)} is answered with ${code}`, async () => {
      const { error } = await server.call(method, params);
      assert.equal(error?.code, code);
    });
  }

  const post = (path, { headers = { 'X-API-Key': API_KEY }, method = 'POST', body = '{"channel":"x","data":1}' } = {}) =>
    fetch(`${server.http}${path}`, { method, headers, body: method === 'GET' ? undefined : body });

  test('bad_a1: who may ask', async () => {
    assert.equal((await post('/api/publish')).status, 200);
    assert.equal((await post('/api/publish', { headers: { Authorization: `apikey ${API_KEY}` } })).status, 200);
    assert.equal((await post(`/api/publish?api_key=${API_KEY}`, { headers: {} })).status, 200);
    assert.equal((await post('/api/publish', { headers: {} })).status, 401);
    assert.equal((await post('/api/publish', { headers: { 'X-API-Key': 'wrong' } })).status, 401);
    assert.equal((await post('/api/publish', { headers: { 'X-API-Key': `${API_KEY} x` } })).status, 401);
    assert.equal((await post('/api/publish', { headers: { 'X-API-Key': '' } })).status, 401);
    assert.equal((await post('/api/publish', { method: 'GET' })).status, 405);
    assert.equal((await post('/api/nothing')).status, 404);
    assert.equal((await post('/api/publish', { body: '' })).status, 400);
    assert.equal((await post('/api/publish', { body: '{"channel":' })).status, 400);
    assert.ok(!server.log.includes(API_KEY), 'the key is nowhere in the log');
  });

  test('errors by status, where asked for', async () => {
    for (const [method, params, status] of [
      ['publish', { channel: 'nowhere:x', data: 1 }, 404], ['publish', { channel: '', data: 1 }, 400],
      ['history', { channel: 'x' }, 400], ['history', { channel: 'log:x', limit: 1, since: { offset: 1, epoch: 'zzz' } }, 416]]) {
      const response = await post(`/api/${method}`, {
        headers: { 'X-API-Key': API_KEY, 'X-Centrifugo-Error-Mode': 'transport' }, body: JSON.stringify(params),
      });
      assert.equal(response.status, status, method);
      assert.equal(typeof (await response.json()).code, 'number');
    }
  });

  test('the older form: one command a line', async () => {
    const body = ['{"id":1,"method":"publish","params":{"channel":"log:lines","data":1}}', '{"id":2,"method":"nothing","params":{}}'].join('\n');
    const answer = (await (await post('/api', { body })).text()).trim().split('\n').map((line) => JSON.parse(line));
    assert.equal(answer.length, 2);
    assert.equal(answer[0].id, 1);
    assert.equal(answer[0].result.offset, 1);
    assert.equal(answer[1].error.code, 104);
  });

  test('health and metrics', async () => {
    const health = await fetch(`${server.http}/health`);
    assert.deepEqual([health.status, await health.json()], [200, {}]);
    assert.equal((await fetch(`${server.http}/health/ready`)).status, 200);
    const metrics = await fetch(`${server.http}/metrics`);
    assert.equal(metrics.status, 200);
    assert.match(await metrics.text(), /^# HELP /m);
  });
});
