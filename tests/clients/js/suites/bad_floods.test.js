// Lawful commands in unlawful numbers (family P4): answered or ended, and nobody else waits for it.

import assert from 'node:assert/strict';

import { MARKER, underAttack } from '../lib/attack.js';
import { frame, Raw, tcpUpgrade } from '../lib/raw.js';
import { connectionToken } from '../lib/tokens.js';
import { eventually } from '../lib/wait.js';

const config = {
  channel: {
    without_namespace: {
      allow_subscribe_for_client: true, allow_publish_for_client: true, allow_presence_for_client: true, presence: true, join_leave: true,
    },
    namespaces: [{
      name: 'log', allow_subscribe_for_client: true, allow_publish_for_client: true, allow_history_for_client: true,
      history_size: 1000, history_ttl: '60s',
    }],
  },
};
const token = () => connectionToken('mallory');
const DATA = { note: MARKER };

/** Sends commands in frames of a hundred and returns how often each answer came: 0, or the code of the error. */
async function flood(raw, count, command) {
  let at = 0;
  while (at < count) {
    const some = Array.from({ length: Math.min(100, count - at) }, (_, index) => ({ id: 100 + at + index, ...command(at + index) }));
    raw.send(...some);
    at += some.length;
  }
  const answers = {};
  for (let left = count; left > 0;) {
    const message = await raw.next(20_000);
    if (message.id >= 100) {
      const code = message.error?.code ?? 0;
      answers[code] = (answers[code] ?? 0) + 1;
      left -= 1;
    }
  }
  return answers;
}

/** What is sent how often, and what is answered. */
const floods = [
  ['subscribing and leaving in turn', 4000, (n) => (n % 2 ? { unsubscribe: { channel: 'flap' } } : { subscribe: { channel: 'flap' } }), { 0: 4000 }],
  ['subscribing to what it has', 4000, () => ({ subscribe: { channel: 'log:mine' } }), { 0: 1, 105: 3999 }],
  ['subscribing where it may not', 4000, () => ({ subscribe: { channel: '$private' } }), { 103: 4000 }],
  ['leaving what it never had', 4000, (n) => ({ unsubscribe: { channel: `never-${n}` } }), { 0: 4000 }],
  ['publishing', 4000, () => ({ publish: { channel: 'plain', data: DATA } }), { 0: 4000 }],
  ['publishing to thousands of channels', 4000, (n) => ({ publish: { channel: `log:${n}`, data: DATA } }), { 0: 4000 }],
  ['publishing nothing', 4000, () => ({ publish: { channel: 'plain' } }), { 107: 4000 }],
  ['asking who is there', 4000, () => ({ presence: { channel: 'plain' } }), { 0: 4000 }],
  ['asking how many are there', 4000, (n) => ({ presence_stats: { channel: `empty-${n}` } }), { 0: 4000 }],
  ['reading history that is not there', 4000, (n) => ({ history: { channel: `log:none-${n}`, limit: 2147483647 } }), { 0: 4000 }],
  ['reading history of another epoch', 4000, () => ({ history: { channel: 'log:0', limit: -2147483648, since: { offset: 1, epoch: 'x' } } }), { 112: 4000 }],
  ['calling what nobody answers', 4000, () => ({ rpc: { method: MARKER, data: DATA } }), { 108: 4000 }],
  ['renewing what it does not have', 4000, () => ({ sub_refresh: { channel: 'nothing', token: MARKER } }), { 103: 4000 }],
  ['one id for all of them', 4000, () => ({ id: 100, presence_stats: { channel: 'plain' } }), { 0: 4000 }],
];

underAttack('bad floods', config, (attack) => {
  for (const [name, count, command, answers] of floods) {
    attack(`bad_p4: ${name}`, async (server, context) => {
      const raw = await Raw.connect(server.ws, { token: token() });
      context.after(() => raw.close());
      assert.deepEqual(await flood(raw, count, command), answers);
      assert.ok((await raw.ask({ presence_stats: { channel: 'plain' } })).presence_stats, 'it is served as before');
    });
  }

  attack('bad_p4: history of everything is three hundred at a time', async (server, context) => {
    const raw = await Raw.connect(server.ws, { token: token() });
    context.after(() => raw.close());
    await server.publishAll('log:long', Array.from({ length: 1000 }, (_, n) => n));
    for (const limit of [301, 2147483647, -1, -2147483648]) {
      const { history } = await raw.ask({ history: { channel: 'log:long', limit } });
      assert.deepEqual([history.publications.length, history.offset], [300, 1000], `limit ${limit}`);
    }
    // JSON.parse of this file's language has no such numbers, so they are written as text.
    raw.send('{"id":900,"history":{"channel":"log:long","limit":1,"since":{"offset":18446744073709551615}}}');
    const { history } = await raw.find((message) => message.id === 900);
    assert.deepEqual(history.publications, []);
    assert.deepEqual(await flood(raw, 200, () => ({ history: { channel: 'log:long', limit: -1 } })), { 0: 200 });
  });

  for (const [name, command, code] of [
    ['a limit above 32 bits', '{"id":2,"history":{"channel":"log:x","limit":2147483648}}', 3501],
    ['an offset above 64 bits', '{"id":2,"history":{"channel":"log:x","since":{"offset":18446744073709551616}}}', 3501],
    ['messages that nobody takes', '{"send":{"data":{}}}', 3508],
    ['connects', '{"id":2,"connect":{}}', 3501],
    ['pongs', '{}', 3501],
    ['tokens that are none', '{"id":2,"refresh":{"token":"none"}}', 3500],
  ]) {
    attack(`bad_p4: a flood of ${name}: ${code}`, async (server) => {
      const raw = await Raw.connect(server.ws, { token: token() });
      raw.send(...Array.from({ length: 500 }, () => command));
      assert.equal((await raw.end()).code, code);
    }, { log: new RegExp(`${code}`) });
  }

  attack('bad_p4: one frame full of commands', async (server, context) => {
    const raw = await Raw.connect(server.ws, { token: token() });
    context.after(() => raw.close());
    const commands = Array.from({ length: 1500 }, (_, n) => `{"id":${n + 2},"unsubscribe":{"channel":"c"}}`);
    assert.ok(commands.join('\n').length < 65_536);
    raw.send(...commands);
    for (const n of commands.keys()) assert.deepEqual(await raw.next(), { id: n + 2, unsubscribe: {} });
  });

  attack('bad_p4: commands whose answers are not read: 3009', async (server, context) => {
    const socket = await tcpUpgrade(server.port);
    context.after(() => socket.destroy());
    socket.pause();
    socket.write(frame(JSON.stringify({ id: 1, connect: { token: token() } })));
    await server.publishAll('log:heavy', Array.from({ length: 300 }, () => 'x'.repeat(2000)));
    const asked = frame('{"id":2,"history":{"channel":"log:heavy","limit":300}}');
    // Each answer is 600 KB; when the kernel takes no more, the rest waits with the client and not in the server.
    socket.write(Buffer.concat(Array.from({ length: 1000 }, () => asked)));
    await eventually('it is cut', async () => (await server.api('info')).nodes[0].num_clients === 50, { timeout: 20_000 });
  }, { log: /3009/ });
});
