// Clients that are slow, silent, too many, or from elsewhere; and a server that runs into its limits.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { after, before, describe, test } from 'node:test';

import { MARKER, underAttack } from '../lib/attack.js';
import { closeCode, frame, Raw, tcpUpgrade } from '../lib/raw.js';
import { freePort, spawnServer, startServer } from '../lib/server.js';
import { connectionToken } from '../lib/tokens.js';
import { eventually, within } from '../lib/wait.js';

const everyone = { channel: { without_namespace: { allow_subscribe_for_client: true } } };
const hello = (user) => JSON.stringify({ id: 1, connect: { token: connectionToken(user) } });

underAttack('bad clients', {
  ...everyone,
  client: { stale_close_delay: '1s', queue_max_size: 262_144, allowed_origins: ['https://good.example', 'https://*.good.example'] },
}, (attack) => {
  attack('inv_b1: a client that never reads is cut as slow (3008) and holds nobody up', async (server, context) => {
    const socket = await tcpUpgrade(server.port);
    socket.pause();
    socket.write(Buffer.concat([frame(hello('mallory')), frame('{"id":2,"subscribe":{"channel":"flood"}}')]));
    const witness = await Raw.connect(server.ws, { token: connectionToken('reader') });
    context.after(() => witness.close());
    await witness.ask({ subscribe: { channel: 'flood' } });
    await eventually('both are subscribed', async () =>
      (await server.api('channels', { pattern: 'flood' })).channels.flood?.num_clients === 2);
    const pad = `${MARKER}${'x'.repeat(60_000)}`;
    let sent = 0;
    await eventually('the slow client is cut', async () => {
      await server.publish('flood', { n: sent += 1, pad });
      const message = await witness.find((each) => each.push?.pub);
      assert.equal(message.push.pub.data.n, sent);
      return (await server.api('channels', { pattern: 'flood' })).channels.flood.num_clients === 1;
    }, { every: 0, timeout: 25_000 });
    socket.destroy();
  }, { log: /3008|slow|3009/ });

  attack('bad_h5: a client that sends its message one byte at a time, never finishing, is cut as stale (3502)', async (server, context) => {
    const socket = await tcpUpgrade(server.port);
    const bytes = frame(hello('mallory'));
    let at = 0;
    const timer = setInterval(() => { if (at < bytes.length - 1 && !socket.destroyed) socket.write(bytes.subarray(at, at += 1)); }, 100);
    context.after(() => clearInterval(timer));
    assert.equal(await closeCode(socket), 3502);
  }, { log: /3502/ });

  attack('a connected client that sends one byte a moment is served all the same', async (server, context) => {
    const socket = await tcpUpgrade(server.port);
    context.after(() => socket.destroy());
    let got = socket.early.toString('latin1');
    socket.on('data', (chunk) => { got += chunk.toString('latin1'); });
    socket.write(frame(hello('mallory')));
    await eventually('it is connected', () => got.includes('"connect"'));
    for (const byte of frame('{"id":2,"subscribe":{"channel":"slowly"}}')) {
      socket.write(Buffer.from([byte]));
      await new Promise((resolve) => { setImmediate(resolve); });
    }
    await eventually('the command sent byte by byte is answered', () => got.includes('"subscribe":{}'));
  });

  attack('bad_p3: a client that never sends connect is cut as stale (3502)', async (server) => {
    const raw = await Raw.open(server.ws);
    assert.deepEqual(await raw.end(), { code: 3502, reason: 'stale' });
  }, { log: /3502/ });

  attack('bad_h5: a client that never finishes its headers is cut', async (server) => {
    const socket = net.connect(server.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write('GET /connection/websocket HTTP/1.1\r\nHost: x\r\n');
    socket.resume();
    await within('the end of a request without an end', once(socket, 'close'), 20_000);
  });

  const refusedOrigins = ['https://evil.example', 'http://good.example', 'https://good.example:8443', 'https://good.example.evil.example',
    'https://evilgood.example', 'https://good.example@evil.example', 'null', 'https://', 'file://', 'https://good.example.'];
  for (const [index, origin] of refusedOrigins.entries()) {
    attack(`bad_o1: origin ${origin}: 403`, async (server) => {
      const raw = new Raw(server.ws, { headers: { Origin: origin } });
      assert.equal((await within('a refusal', raw.refused)).status, 403);
      // A flood of them is one line a second.
    }, index === 0 ? { log: /allowed_origins.*evil\.example|evil\.example.*allowed_origins/ } : {});
  }

  attack('origins that are listed, in any case, and none at all, pass', async (server) => {
    for (const headers of [{}, { Origin: 'https://good.example' }, { Origin: 'HTTPS://GOOD.EXAMPLE' }, { Origin: 'https://a.good.example' }]) {
      const raw = await Raw.open(server.ws, { headers });
      raw.close();
    }
  });

  attack('bad_w5: a thousand connections that come and go leave nothing behind', async (server) => {
    for (let round = 0; round < 20; round += 1) {
      const sockets = await Promise.all(Array.from({ length: 50 }, () => tcpUpgrade(server.port)));
      for (const [index, socket] of sockets.entries()) {
        if (index % 2) socket.write(frame(hello('mallory')));
        socket.resetAndDestroy();
      }
    }
    await eventually('only the witnesses are left', async () => (await server.api('info')).nodes[0].num_clients === 50);
  });
});

describe('admission', () => {
  test('connections beyond connection_limit: 503', { timeout: 20_000 }, async (context) => {
    const server = await startServer({ ...everyone, client: { connection_limit: 3 } });
    context.after(() => server.stop());
    const three = [];
    for (let index = 0; index < 3; index += 1) three.push(await Raw.connect(server.ws, { token: connectionToken('ann') }));
    const fourth = new Raw(server.ws);
    assert.equal((await within('a refusal', fourth.refused)).status, 503);
    three[0].close();
    const replaced = await eventually('a place is free again', () => Raw.connect(server.ws, { token: connectionToken('ann') }));
    for (const raw of [...three, replaced]) raw.close();
  });

  test('connections faster than connection_rate_limit: 503', { timeout: 20_000 }, async (context) => {
    const server = await startServer({ ...everyone, client: { connection_rate_limit: 5 } });
    context.after(() => server.stop());
    const begun = performance.now();
    const all = Array.from({ length: 20 }, () => new Raw(server.ws));
    const statuses = await within('an answer to each', Promise.all(all.map((raw) =>
      Promise.race([raw.refused.then(({ status }) => status), once(raw.socket, 'open').then(() => 101)]))));
    const opened = statuses.filter((status) => status === 101).length;
    const allowed = 5 + Math.ceil((performance.now() - begun) / 1000) * 5;
    assert.ok(opened >= 5 && opened <= allowed, `${opened} of 20 at 5 a second, ${allowed} allowed`);
    assert.ok(opened < 20 || allowed >= 20, 'some were refused');
    assert.ok(statuses.every((status) => status === 101 || status === 503), statuses.join());
    for (const raw of all) raw.close();
  });

  test('inv_g6: descriptors run out: the server says so, keeps its clients and goes on', { timeout: 60_000 }, async (context) => {
    const limit = 96;
    const server = await startServer(everyone, { wrap: ['prlimit', `--nofile=${limit}:${limit}`] });
    context.after(() => server.stop());
    const first = await Raw.connect(server.ws, { token: connectionToken('ann') }, { pong: true });
    context.after(() => first.close());
    await first.ask({ subscribe: { channel: 'still' } });
    const sockets = Array.from({ length: limit * 2 }, () => net.connect(server.port, '127.0.0.1').on('error', () => {}));
    context.after(() => { for (const socket of sockets) socket.destroy(); });
    await eventually('a log line about descriptors', () => /(descriptor|too many open files|os error 24)/i.test(server.log), { timeout: 20_000 });
    for (const socket of sockets) socket.destroy();
    await eventually('new clients are served again', async () => {
      const raw = await Raw.connect(server.ws, { token: connectionToken('bob') });
      raw.close();
      return true;
    }, { timeout: 20_000 });
    await server.publish('still', 'here');
    assert.equal((await first.find((message) => message.push)).push.pub.data, 'here');
    assert.ok(server.log.length < 1_000_000, 'one line for many failures, not one each');
  });
});

describe('starting', () => {
  let running;
  before(async () => { running = await startServer(); });
  after(() => running.stop());

  test('a port in use: it leaves with a clear word', { timeout: 20_000 }, async () => {
    const second = spawnServer({}, running.port);
    const { code } = await within('it leaves', second.exited);
    assert.notEqual(code, 0);
    assert.match(second.log, new RegExp(`${running.port}`));
    assert.match(second.log, /in use/i);
    await second.stop();
  });

  test('bad_c2: a configuration with three mistakes: exit 2, all of them told', { timeout: 20_000 }, async () => {
    const port = await freePort();
    const server = spawnServer({
      client: { ping_intervall: '25s', channel_limit: 'many' },
      channel: { without_namespace: { history_size: 10 } },
    }, port);
    const { code } = await within('it leaves', server.exited);
    assert.equal(code, 2, server.log);
    assert.match(server.log, /ping_intervall/);
    assert.match(server.log, /ping_interval\b/, 'the nearest name is told');
    assert.match(server.log, /channel_limit/);
    assert.match(server.log, /history_ttl/);
    assert.match(server.log, /config\.json:\d+/, 'file and line are told');
    await server.stop();
  });

  test('bad_c2: a configuration that is no JSON: exit 2', { timeout: 20_000 }, async () => {
    const server = spawnServer('{"client": ', await freePort());
    assert.equal((await within('it leaves', server.exited)).code, 2, server.log);
    assert.match(server.log, /config\.json/);
    await server.stop();
  });

  test('without a key or option that admits clients, every connect is refused and the start says which key is missing', { timeout: 20_000 }, async (context) => {
    const server = await startServer({ client: { token: { hmac_secret_key: '' } } });
    context.after(() => server.stop());
    const raw = await Raw.open(server.ws);
    raw.send({ id: 1, connect: {} });
    assert.equal((await raw.end()).code, 3501);
    assert.match(server.log, /client\.token/);
  });
});
