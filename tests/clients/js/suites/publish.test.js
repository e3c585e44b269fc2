// Publishing: from clients, from the API; every kind of payload.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { countingWebSocket, forBoth } from '../lib/client.js';
import { Raw } from '../lib/raw.js';
import { startServer } from '../lib/server.js';
import { connectionToken } from '../lib/tokens.js';

const LIMIT = 65_536;

const payloads = {
  'text of many scripts': 'Grüße, 世界 — שלום 🐦‍⬛ é',
  'newlines and quotes in a string': 'line one\nline two\r\n"quoted"\\n\ttab\u2028\u2029',
  'controls and null in a string': '\u0000\u0001\u001f\u007f',
  'an empty string': '',
  null: null,
  false: false,
  zero: 0,
  'a number with a fraction': -1.5e-7,
  'the largest exact integer': 9007199254740991,
  'nested arrays': [[[[[1]]]], {}],
  'names that are odd': { '': 1, 'a\nb': 2, 'ключ': { 'π': [] } },
};

describe('publish', () => {
  let server;
  before(async () => {
    server = await startServer({
      channel: {
        without_namespace: {},
        namespaces: [
          { name: 'chat', allow_subscribe_for_client: true, allow_publish_for_client: true },
          { name: 'log', allow_subscribe_for_client: true, allow_publish_for_client: true, history_size: 100, history_ttl: '60s' },
          { name: 'read', allow_subscribe_for_client: true },
          { name: 'members', allow_subscribe_for_client: true, allow_publish_for_subscriber: true },
          { name: 'json', allow_subscribe_for_client: true, allow_publish_for_client: true, publication_data_format: 'json' },
          { name: 'object', allow_subscribe_for_client: true, allow_publish_for_client: true, publication_data_format: 'json_object' },
        ],
      },
    });
  });
  after(() => server.stop());
  const token = (user = 'ann') => connectionToken(user, { info: { name: user } });

  forBoth(test, 'from one client to others, with who it was', async ({ peer, unpack }) => {
    const ann = peer(server.ws, { token: token('ann') });
    const bob = peer(server.ws, { token: token('bob') });
    const { client } = await ann.connect();
    await bob.connect();
    const hers = await ann.subscribe('chat:room');
    const his = await bob.subscribe('chat:room');
    await ann.publish('chat:room', { text: 'hi' });
    for (const [who, made] of [[ann, hers], [bob, his]]) {
      const event = await made.events.next('publication');
      assert.deepEqual(who.unpack(event.data), { text: 'hi' });
      assert.equal(event.channel, 'chat:room');
      assert.equal(event.info.user, 'ann');
      assert.equal(event.info.client, client);
      assert.deepEqual(unpack(event.info.connInfo), { name: 'ann' });
      assert.ok(!event.offset, 'no offset without history');
    }
  });

  forBoth(test, 'between the encodings', async ({ peer, encoding, pack }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    const made = await one.subscribe('chat:both');
    const raw = await Raw.connect(server.ws, { token: token('raw') });
    await raw.ask({ subscribe: { channel: 'chat:both' } });
    await one.client.publish('chat:both', pack({ from: encoding }));
    assert.deepEqual((await raw.find((message) => message.push)).push.pub.data, { from: encoding });
    await raw.ask({ publish: { channel: 'chat:both', data: { from: 'raw' } } });
    assert.deepEqual(await one.payloads(made, 2), [{ from: encoding }, { from: 'raw' }]);
    raw.close();
  });

  forBoth(test, 'with offsets where there is history', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    const channel = `log:offsets-${one.encoding.name}`;
    const made = await one.subscribe(channel);
    await one.publish(channel, 1);
    const { offset, epoch } = await server.publish(channel, 2);
    assert.equal(offset, 2);
    assert.equal(typeof epoch, 'string');
    const events = await made.events.take('publication', 2);
    assert.deepEqual(events.map((event) => event.offset), [1, 2]);
    assert.equal(events[1].info, undefined, 'the API is no client');
  });

  forBoth(test, 'without permission: 103', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    await one.subscribe('read:x');
    for (const [channel, code] of [['read:x', 103], ['closed', 103], ['nowhere:x', 102], [`chat:${'x'.repeat(251)}`, 107]]) {
      await assert.rejects(one.publish(channel, 1), { code }, channel);
    }
    assert.equal(one.events.of('connecting').length, 1);
  });

  forBoth(test, 'only for subscribers, where the namespace says so', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    await assert.rejects(one.publish('members:x', 1), { code: 103 });
    const made = await one.subscribe('members:x');
    await one.publish('members:x', 2);
    assert.deepEqual(await one.payloads(made, 1), [2]);
  });

  for (const [what, value] of Object.entries(payloads)) {
    forBoth(test, `payload: ${what}`, async ({ peer }) => {
      const one = peer(server.ws, { token: token() });
      await one.connect();
      const made = await one.subscribe('chat:payloads');
      await one.publish('chat:payloads', value);
      assert.deepEqual(await one.payloads(made, 1), [value]);
      await server.publish('chat:payloads', value);
      assert.deepEqual(await one.payloads(made, 1), [value]);
    });
  }

  test('newlines between the tokens of a payload do not split the frame', async (context) => {
    const raw = await Raw.connect(server.ws, { token: token() });
    context.after(() => raw.close());
    await raw.ask({ subscribe: { channel: 'chat:spaces' } });
    const response = await fetch(`${server.http}/api/publish`, {
      method: 'POST',
      headers: { 'X-API-Key': 'api-key-of-these-tests-which-must-not-be-logged' },
      body: '{"channel":"chat:spaces","data":{\n  "a": [\r\n 1,\n 2\n ],\n "b": "x\\ny"\n}\n}',
    });
    assert.equal(response.status, 200);
    assert.deepEqual((await raw.find((message) => message.push)).push.pub.data, { a: [1, 2], b: 'x\ny' });
  });

  forBoth(test, 'a message just below 64 KiB passes', async ({ peer, encoding }) => {
    const websocket = countingWebSocket();
    const one = peer(server.ws, { token: token(), websocket });
    await one.connect();
    const made = await one.subscribe('chat:large');
    await one.publish('chat:large', 'x'.repeat(1000));
    const around = Buffer.byteLength(websocket.sent.at(-1)) - 1000;
    // The lengths inside a protobuf message grow by a few bytes with it; its measure is taken again below.
    const slack = encoding === 'json' ? 0 : 16;
    await one.publish('chat:large', 'x'.repeat(LIMIT - around - slack));
    const size = Buffer.byteLength(websocket.sent.at(-1));
    assert.ok(size <= LIMIT && size > LIMIT - 32, `${size} bytes`);
    assert.deepEqual((await one.payloads(made, 2)).map((text) => text.length), [1000, LIMIT - around - slack]);
  });

  forBoth(test, 'bad_o1: a message above 64 KiB ends with 1009, for good', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    one.publish('chat:large', 'x'.repeat(LIMIT)).catch(() => {});
    // 3: the client's own code for a close with 1009, after which it does not come back.
    assert.equal((await one.events.next('disconnected')).code, 3);
  });

  forBoth(test, 'publications larger than 64 KiB come through the API', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    const made = await one.subscribe('chat:huge');
    const text = 'ü'.repeat(150_000);
    await server.publish('chat:huge', { text });
    const [{ text: got }] = await one.payloads(made, 1);
    assert.ok(got === text);
  });

  forBoth(test, 'a batch in one frame keeps its order', async ({ peer }) => {
    const websocket = countingWebSocket();
    const one = peer(server.ws, { token: token(), websocket });
    await one.connect();
    const channel = `log:batch-${one.encoding.name}`;
    const made = await one.subscribe(channel);
    await one.client.ready();
    const sent = websocket.sent.length;
    const list = Array.from({ length: 50 }, (_, index) => index);
    one.client.startBatching();
    const all = list.map((value) => one.publish(channel, value));
    await Promise.resolve();
    // The client hands a command to the batch once its promise for readiness is through.
    await new Promise((resolve) => { setImmediate(resolve); });
    one.client.stopBatching();
    await Promise.all(all);
    assert.equal(websocket.sent.length - sent, 1);
    assert.deepEqual(await one.payloads(made, 50), list);
  });

  forBoth(test, 'sequential publications of the API come in their order', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    const made = await one.subscribe('chat:sequence');
    const list = Array.from({ length: 500 }, (_, index) => index);
    await server.publishAll('chat:sequence', list);
    assert.deepEqual(await one.payloads(made, 500), list);
  });

  forBoth(test, 'tags of a publication', async ({ peer }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    const made = await one.subscribe('chat:tags');
    await server.publish('chat:tags', 1, { tags: { 'größe': '7 µm', b: '' } });
    assert.deepEqual({ ...(await made.events.next('publication')).tags }, { 'größe': '7 µm', b: '' });
  });

  forBoth(test, 'formats that a namespace asks for', async ({ peer, Client, encoding }) => {
    const one = peer(server.ws, { token: token() });
    await one.connect();
    await one.publish('json:x', [1]);
    await one.publish('object:x', {});
    await assert.rejects(one.publish('object:x', [1]), { code: 107 });
    if (encoding === 'protobuf') await assert.rejects(one.client.publish('json:x', new Uint8Array([0xff, 0])), { code: 107 });
    assert.equal(typeof Client, 'function');
    await assert.rejects(server.publish('object:x', 'text'), { code: 107 });
  });

  test('bytes that are not JSON reach protobuf clients and end JSON ones with 3506', { timeout: 20_000 }, async (context) => {
    const { Peer } = await import('../lib/client.js');
    const binary = new Peer('protobuf', server.ws, { token: token() });
    const text = new Peer('json', server.ws, { token: token() });
    context.after(() => { binary.close(); text.close(); });
    await binary.connect();
    await text.connect();
    const made = await binary.subscribe('chat:binary');
    await text.subscribe('chat:binary');
    const bytes = Buffer.from([0, 255, 10, 13, 128]);
    await server.api('publish', { channel: 'chat:binary', b64data: bytes.toString('base64') });
    assert.deepEqual(Buffer.from((await made.events.next('publication')).data), bytes);
    assert.equal((await text.events.next('disconnected')).code, 3506);
  });
});

describe('rpc and send', () => {
  forBoth(test, 'rpc without anything behind it: 108', async ({ peer, context }) => {
    const server = await startServer();
    context.after(() => server.stop());
    const one = peer(server.ws, { token: connectionToken('ann') });
    await one.connect();
    await assert.rejects(one.client.rpc('method', one.pack({})), { code: 108 });
    await assert.rejects(one.client.rpc('space:method', one.pack({})), { code: 108 });
    assert.equal(one.events.of('connecting').length, 1);
  });

  forBoth(test, 'the built-in ping answers; others are unknown: 104', async ({ peer, context }) => {
    const server = await startServer({ rpc: { ping: { enabled: true } } });
    context.after(() => server.stop());
    const one = peer(server.ws, { token: connectionToken('ann') });
    await one.connect();
    await one.client.rpc('ping', one.pack({}));
    await assert.rejects(one.client.rpc('pong', one.pack({})), { code: 104 });
    await assert.rejects(one.client.rpc('unknown:method', one.pack({})), { code: 104 });
  });

  forBoth(test, 'a namespace of methods without a proxy: 108', async ({ peer, context }) => {
    const server = await startServer({ rpc: { namespaces: [{ name: 'space' }] } });
    context.after(() => server.stop());
    const one = peer(server.ws, { token: connectionToken('ann') });
    await one.connect();
    await assert.rejects(one.client.rpc('space:method', one.pack({})), { code: 108 });
  });

  forBoth(test, 'send without a handler ends with 3508', async ({ peer, context }) => {
    const server = await startServer();
    context.after(() => server.stop());
    const one = peer(server.ws, { token: connectionToken('ann') });
    await one.connect();
    await one.client.send(one.pack({ x: 1 }));
    assert.equal((await one.events.next('disconnected')).code, 3508);
  });
});
