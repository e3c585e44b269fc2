// Messages that are no commands, or commands at the wrong time, against the real server.

import assert from 'node:assert/strict';

import { MARKER, underAttack } from '../lib/attack.js';
import { Raw } from '../lib/raw.js';
import { connectionToken } from '../lib/tokens.js';

const config = {
  channel: {
    without_namespace: { allow_subscribe_for_client: true, allow_publish_for_client: true },
    namespaces: [{ name: 'log', allow_subscribe_for_client: true, history_size: 10, history_ttl: '60s', allow_history_for_client: true }],
  },
};
const token = () => connectionToken('mallory');

/** Sent as they are on a connected JSON connection: 3501. */
const lines = [
  ['p1: nothing', ''],
  ['p1: spaces', '   '],
  ['p1: not JSON', `${MARKER}`],
  ['p1: cut off', `{"id":2,"publish":{"channel":"x","data":"${MARKER}`],
  ['p1: null', 'null'],
  ['p1: a number', '1'],
  ['p1: a list', '[]'],
  ['p1: a list of commands', `[{"id":2,"publish":{"channel":"x","data":1}}]`],
  ['p1: a trailing comma', '{"id":2,"ping":{},}'],
  ['p1: NaN', '{"id":NaN,"rpc":{}}'],
  ['p1: single quotes', "{'id':2}"],
  ['p1: a comment', '{"id":2/**/,"rpc":{}}'],
  ['p1: two values', '{"id":2,"rpc":{}}{"id":3,"rpc":{}}'],
  ['p1: an empty line between commands', '{"id":2,"unsubscribe":{"channel":"x"}}\n\n{"id":3,"unsubscribe":{"channel":"x"}}'],
  ['p1: an id below zero', '{"id":-1,"rpc":{"method":"x"}}'],
  ['p1: an id with a fraction', '{"id":1.5,"rpc":{"method":"x"}}'],
  ['p1: an id above 32 bits', '{"id":4294967296,"rpc":{"method":"x"}}'],
  ['p1: an id that is a string', '{"id":"2","rpc":{"method":"x"}}'],
  ['p1: a channel that is a number', '{"id":2,"subscribe":{"channel":7}}'],
  ['p1: a request that is a list', '{"id":2,"subscribe":[]}'],
  ['p1: a flag that is a string', '{"id":2,"subscribe":{"channel":"x","recover":"yes"}}'],
  ['p1: an offset below zero', '{"id":2,"subscribe":{"channel":"x","offset":-1}}'],
  ['p1: an envelope of depth 10000', `{"id":2,"x":${'['.repeat(10_000)}${']'.repeat(10_000)}}`],
  ['p1: a lone high surrogate escape cut off', '{"id":2,"rpc":{"method":"\\ud83"}}'],
  ['p3: a command without an id', '{"subscribe":{"channel":"x"}}'],
  ['p3: an unknown command', '{"id":2,"dance":{}}'],
  ['p3: the older ping', '{"id":2,"ping":{}}'],
  ['p3: an id alone', '{"id":2}'],
  ['p3: a second connect', '{"id":2,"connect":{}}'],
  ['p3: a subscribe without a channel', '{"id":2,"subscribe":{}}'],
  ['p3: an unsubscribe without a channel', '{"id":2,"unsubscribe":{}}'],
  ['p3: a publish without a channel', '{"id":2,"publish":{"data":1}}'],
  ['p3: a presence without a channel', '{"id":2,"presence":{}}'],
  ['p3: a history without a channel', '{"id":2,"history":{}}'],
  ['p3: a refresh without a token', '{"id":2,"refresh":{}}'],
  ['p3: a sub_refresh without a channel', '{"id":2,"sub_refresh":{}}'],
  ['p3: a reply instead of a command', '{"id":2,"result":{}}'],
  ['p3: a delta of an unknown kind', '{"id":2,"subscribe":{"channel":"x","delta":"zip"}}'],
];

/** Protobuf messages on a connected connection. */
const messages = [
  ['p2: a length that never ends', [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 3501],
  ['p2: a length past the end', [20, 8, 1], 3501],
  ['p2: a length of 2^32', [0x80, 0x80, 0x80, 0x80, 0x10, 8, 1], 3501],
  ['p2: a wrong wire type', [3, 0x0d, 1, 0], 3501],
  ['p2: a group', [2, 0x23, 0x24], 3501],
  ['p2: a string that is not UTF-8', [8, 8, 2, 0x2a, 4, 0x0a, 2, 0xff, 0xfe], 3501],
  ['p2: a string cut off', [6, 8, 2, 0x2a, 2, 0x0a, 9], 3501],
  ['p3: JSON', [...Buffer.from('{"id":2}')], 3501],
  ['p3: an id alone', [2, 8, 2], 3501],
  ['p3: the older ping', [4, 8, 2, 0x5a, 0], 3501],
  ['p1: nothing', [], 3501],
];

/** Answered, and the connection stays. */
const refused = [
  ['n1: an empty namespace, an unknown one', { subscribe: { channel: 'nowhere:x' } }, 102],
  ['n1: 256 bytes', { subscribe: { channel: 'x'.repeat(256) } }, 107],
  ['n1: a control character', { subscribe: { channel: `a\u0001b` } }, 107],
  ['n1: NUL', { subscribe: { channel: `a\u0000b` } }, 107],
  ['n1: a line break', { subscribe: { channel: 'a\r\nb' } }, 107],
  ['n1: a mark that turns text around', { subscribe: { channel: 'a\u202eb' } }, 107],
  ['n1: a private channel without a token', { subscribe: { channel: '$x' } }, 103],
  ['n1: an unknown namespace of a publish', { publish: { channel: 'nowhere:x', data: 1 } }, 102],
  ['n1: a publish to a name that is too long', { publish: { channel: 'x'.repeat(256), data: 1 } }, 107],
  ['p3: a publish without data', { publish: { channel: 'x' } }, 107],
  ['p4: history of everything', { history: { channel: 'log:x', limit: 2147483647, since: { offset: 1, epoch: 'zzz' } } }, 112],
  ['p3: history backwards from zero', { history: { channel: 'log:x', limit: 1, reverse: true, since: { offset: 0 } } }, 107],
  ['p3: a sub_refresh of a channel that is not subscribed', { sub_refresh: { channel: 'x', token: 'y' } }, 103],
  ['p3: a rpc that nobody answers', { rpc: { method: MARKER, data: {} } }, 108],
  ['p3: a map subscription', { subscribe: { channel: 'x', type: 1 } }, 103],
  ['p3: a shared poll', { subscribe: { channel: 'x', type: 4 } }, 108],
];

underAttack('bad protocol', config, (attack) => {
  for (const [name, line] of lines) {
    attack(`bad_${name}: 3501`, async (server) => {
      const raw = await Raw.connect(server.ws, { token: token() });
      raw.bytes(line);
      assert.deepEqual(await raw.end(), { code: 3501, reason: 'bad request' });
    }, { log: /3501/ });
  }

  for (const [name, bytes, code] of messages) {
    attack(`bad_${name} [protobuf]: ${code}`, async (server) => {
      const raw = await Raw.open(`${server.ws}?format=protobuf`);
      const text = Buffer.from(token());
      const connect = Buffer.concat([Buffer.from([0x0a]), varint(text.length), text]);
      const command = Buffer.concat([Buffer.from([8, 1, 0x22]), varint(connect.length), connect]);
      raw.bytes(Buffer.concat([varint(command.length), command]));
      await raw.next();
      raw.bytes(Buffer.from(bytes));
      assert.equal((await raw.end()).code, code);
    }, { log: new RegExp(`${code}`) });
  }

  for (const [name, command, code] of refused) {
    attack(`bad_${name}: ${code}, and the connection stays`, async (server, context) => {
      const raw = await Raw.connect(server.ws, { token: token() });
      context.after(() => raw.close());
      const { error } = await raw.ask(command);
      assert.equal(error?.code, code);
      assert.ok((await raw.ask({ subscribe: { channel: 'fine' } })).subscribe);
    }, { log: new RegExp(`\\b${code}\\b`) });
  }

  attack('bad_p3: a command before connect: 3501', async (server) => {
    for (const command of ['{"id":1,"subscribe":{"channel":"x"}}', '{}', '{"send":{"data":{}}}', '{"id":1,"refresh":{"token":"x"}}']) {
      const raw = await Raw.open(server.ws);
      raw.send(command);
      assert.equal((await raw.end()).code, 3501, command);
    }
  }, { log: /3501/ });

  attack('bad_p3: an id that is used again is answered again', async (server, context) => {
    const raw = await Raw.connect(server.ws, { token: token() });
    context.after(() => raw.close());
    raw.send({ id: 5, subscribe: { channel: 'a' } }, { id: 5, subscribe: { channel: 'b' } });
    assert.deepEqual([await raw.next(), await raw.next()], [{ id: 5, subscribe: {} }, { id: 5, subscribe: {} }]);
  });

  attack('bad_p3: subscribing twice: 105', async (server, context) => {
    const raw = await Raw.connect(server.ws, { token: token() });
    context.after(() => raw.close());
    raw.send({ id: 2, subscribe: { channel: 'a' } }, { id: 3, subscribe: { channel: 'a' } });
    const replies = [await raw.next(), await raw.next()];
    assert.deepEqual(replies.map((reply) => reply.error?.code), [undefined, 105]);
  });

  attack('bad_p3: unsubscribing from what was never subscribed succeeds', async (server, context) => {
    const raw = await Raw.connect(server.ws, { token: token() });
    context.after(() => raw.close());
    assert.deepEqual((await raw.ask({ unsubscribe: { channel: 'never' } })).unsubscribe, {});
  });

  attack('bad_p3: two commands in one: the first of the table counts', async (server, context) => {
    const raw = await Raw.connect(server.ws, { token: token() });
    context.after(() => raw.close());
    const reply = await raw.ask({ publish: { channel: 'a', data: 1 }, subscribe: { channel: 'a' } });
    assert.ok(reply.subscribe);
    assert.equal(reply.publish, undefined);
  });

  attack('bad_p3: protobuf on a JSON connection: 3501', async (server) => {
    const raw = await Raw.connect(server.ws, { token: token() });
    raw.bytes(Buffer.from([4, 8, 2, 0x5a, 0]));
    assert.equal((await raw.end()).code, 3501);
  }, { log: /3501/ });

  attack('bad_p3: a connect that is refused takes the rest of its frame along', async (server) => {
    const raw = await Raw.open(server.ws);
    raw.send({ id: 1, connect: { token: connectionToken('mallory', { exp: 1 }) } }, { id: 2, subscribe: { channel: 'a' } });
    assert.equal((await raw.next()).error.code, 109);
    raw.send({ id: 3, connect: { token: token() } });
    assert.equal((await raw.end()).code, 1006, 'dropped without a word');
    assert.equal(raw.messages.length, 0);
  });

  attack('bad_p4: ten thousand subscribes: 106 beyond the limit', async (server, context) => {
    const raw = await Raw.connect(server.ws, { token: token() });
    context.after(() => raw.close());
    for (let frame = 0; frame < 100; frame += 1) {
      raw.send(...Array.from({ length: 100 }, (_, index) => ({ id: 10 + frame * 100 + index, subscribe: { channel: `c${frame}-${index}` } })));
    }
    const codes = new Map();
    for (let index = 0; index < 10_000; index += 1) {
      const { error } = await raw.next();
      codes.set(error?.code, (codes.get(error?.code) ?? 0) + 1);
    }
    assert.deepEqual([codes.get(undefined), codes.get(106)], [128, 10_000 - 128]);
  });

  attack('odd but lawful: unknown members, an empty last line, spaces', async (server, context) => {
    const raw = await Raw.connect(server.ws, { token: token() });
    context.after(() => raw.close());
    raw.bytes(' { "id" : 2 , "future" : [ { } ] , "subscribe" : { "channel" : "odd" , "more" : { } } } \n');
    assert.deepEqual(await raw.next(), { id: 2, subscribe: {} });
  });

  attack('odd but lawful: a payload of depth 400', async (server, context) => {
    const raw = await Raw.connect(server.ws, { token: token() });
    context.after(() => raw.close());
    await raw.ask({ subscribe: { channel: 'deep' } });
    raw.bytes(`{"id":9,"publish":{"channel":"deep","data":${'['.repeat(400)}${']'.repeat(400)}}}`);
    assert.ok(await raw.find((message) => message.push?.pub));
  });
});

function varint(value) {
  const out = [];
  let rest = value;
  while (rest > 127) {
    out.push((rest & 127) | 128);
    rest >>= 7;
  }
  out.push(rest);
  return Buffer.from(out);
}
