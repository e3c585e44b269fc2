// TLS: the official client over wss, versions and keys, sessions that are resumed, farewells.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import tls from 'node:tls';

import WebSocket from 'ws';

import { makeCertificate } from '../lib/certificate.js';
import { forBoth } from '../lib/client.js';
import { startServer } from '../lib/server.js';
import { connectionToken } from '../lib/tokens.js';
import { within } from '../lib/wait.js';

const config = {
  channel: {
    without_namespace: {
      history_size: 100, history_ttl: '60s', force_recovery: true, allow_subscribe_for_client: true, allow_publish_for_client: true,
    },
  },
};

/** A WebSocket with other TLS options. */
function webSocketWith(options) {
  return class extends WebSocket {
    constructor(address, protocols) { super(address, protocols, options); }
  };
}

describe('over TLS', () => {
  let server;
  const identity = makeCertificate();
  const ca = identity.certificate;
  before(async () => { server = await startServer(config, { tls: identity }); });
  after(() => server?.stop());

  for (const version of ['TLSv1.2', 'TLSv1.3']) {
    const websocket = webSocketWith({ ca, minVersion: version, maxVersion: version });

    forBoth(test, `small and large messages both ways, with ${version}`, async ({ peer }) => {
      const channel = `both-ways-${version}-${Math.random()}`;
      const one = peer(server.wss, { websocket, token: connectionToken('ann') });
      await one.connect();
      const sub = await one.subscribe(channel);
      for (const length of [1, 1000, 16_000, 40_000]) {
        await one.publish(channel, { text: 'x'.repeat(length) });
        assert.equal((await one.payloads(sub, 1))[0].text.length, length);
      }
      await server.publishAll(channel, [...Array(300).keys()]);
      assert.deepEqual(await one.payloads(sub, 300), [...Array(300).keys()]);
    });
  }

  forBoth(test, 'a client that loses its socket recovers what it missed', async ({ peer }) => {
    const channel = `recovers-${Math.random()}`;
    const sockets = [];
    class Remembered extends webSocketWith({ ca }) {
      constructor(...args) { super(...args); sockets.push(this); }
    }
    const one = peer(server.wss, { websocket: Remembered, token: connectionToken('ann') });
    await one.connect();
    const sub = await one.subscribe(channel);
    for (let round = 0; round < 5; round += 1) {
      sockets.at(-1).terminate();
      await server.publish(channel, round);
      assert.deepEqual(await one.payloads(sub, 1), [round]);
    }
  });

  for (const version of ['TLSv1.2', 'TLSv1.3']) {
    test(`a session is resumed, with ${version}`, { timeout: 30_000 }, async () => {
      const shake = async (session) => {
        const socket = tls.connect({ port: server.tlsPort, host: '127.0.0.1', ca, minVersion: version, maxVersion: version, session });
        const [ticket] = await within('a ticket', once(socket, 'session'));
        const reused = socket.isSessionReused();
        socket.end();
        await within('the end', once(socket.resume(), 'end'));
        return { ticket, reused };
      };
      const first = await shake();
      assert.equal(first.reused, false);
      const socket = tls.connect({
        port: server.tlsPort, host: '127.0.0.1', ca, minVersion: version, maxVersion: version, session: first.ticket,
      });
      await within('the handshake', once(socket, 'secureConnect'));
      assert.equal(socket.isSessionReused(), true);
      socket.write('GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
      const [answer] = await within('an answer', once(socket, 'data'));
      assert.match(String(answer), /^HTTP\/1\.1 404 /);
      socket.destroy();
    });
  }

  test('versions before 1.2 are refused', { timeout: 30_000 }, async () => {
    const options = { port: server.tlsPort, host: '127.0.0.1', ca, minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' };
    const [error] = await within('an error', once(tls.connect(options), 'error'));
    assert.match(error.code ?? error.message, /ALERT_(PROTOCOL_VERSION|HANDSHAKE_FAILURE)/);
  });

  test('a certificate of somebody else is not trusted', { timeout: 30_000 }, async () => {
    const socket = new (webSocketWith({ ca: makeCertificate().certificate }))(server.wss);
    const [error] = await within('an error', once(socket, 'error'));
    assert.match(error.code, /SELF_SIGNED|UNABLE_TO_VERIFY|DEPTH_ZERO/);
  });
});

test('a key of RSA serves as well', { timeout: 60_000 }, async (context) => {
  const identity = makeCertificate(['rsa:2048']);
  const server = await startServer(config, { tls: identity });
  context.after(() => server.stop());
  for (const version of ['TLSv1.2', 'TLSv1.3']) {
    const socket = new (webSocketWith({ ca: identity.certificate, minVersion: version, maxVersion: version }))(server.wss);
    await within('open', once(socket, 'open'));
    socket.send(JSON.stringify({ id: 1, connect: { token: connectionToken('ann') } }));
    const [reply] = await within('a reply', once(socket, 'message'));
    assert.ok(JSON.parse(reply).connect.client);
    socket.close();
    await within('the end', once(socket, 'close'));
  }
});
