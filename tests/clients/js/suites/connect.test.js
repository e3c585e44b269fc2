// Who may connect, and for how long.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { after, before, describe, test } from 'node:test';

import { UnauthorizedError } from 'centrifuge';
import { UnauthorizedError as ProtobufUnauthorizedError } from 'centrifuge/build/protobuf';

import { countingWebSocket, forBoth } from '../lib/client.js';
import { Raw } from '../lib/raw.js';
import { startServer } from '../lib/server.js';
import { connectionToken, seconds, sign } from '../lib/tokens.js';

const unauthorized = { json: UnauthorizedError, protobuf: ProtobufUnauthorizedError };
const open = { channel: { without_namespace: { presence: true, allow_subscribe_for_client: true, allow_presence_for_client: true } } };

describe('connect', () => {
  let server;
  before(async () => { server = await startServer({ ...open, client: { expired_close_delay: '3s' } }); });
  after(() => server.stop());

  forBoth(test, 'a token connects its user and carries the connection info', async ({ peer, unpack }) => {
    const one = peer(server.ws, { token: connectionToken('ann', { info: { name: 'Änn 🐦' } }) });
    const connected = await one.connect();
    assert.match(connected.client, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.equal(connected.transport, 'websocket');
    await one.subscribe('room');
    const { clients } = await one.client.presence('room');
    assert.equal(clients[connected.client].user, 'ann');
    assert.deepEqual(unpack(clients[connected.client].connInfo), { name: 'Änn 🐦' });
  });

  forBoth(test, 'without credentials the connection is refused for good (3501)', async ({ peer }) => {
    const one = peer(server.ws);
    one.client.connect();
    assert.equal((await one.events.next('disconnected')).code, 3501);
  });

  forBoth(test, 'a token that never expires is taken', async ({ peer }) => {
    await peer(server.ws, { token: sign({ sub: 'ann' }) }).connect();
  });

  forBoth(test, 'an empty user is an anonymous connection', async ({ peer, unpack }) => {
    const one = peer(server.ws, { token: sign({ sub: '', info: 7 }) });
    await one.connect();
    const token = sign({ channel: 'anonymous-room', sub: '' });
    await one.subscribe('anonymous-room', { token });
    const result = await server.api('presence', { channel: 'anonymous-room' });
    assert.deepEqual(Object.values(result.presence).map((info) => [info.user, info.conn_info]), [['', 7]]);
    assert.equal(unpack(undefined), undefined);
  });

  forBoth(test, 'an expired token is answered with 109, and the next one of getToken is used', async ({ peer }) => {
    let asked = 0;
    const one = peer(server.ws, {
      token: connectionToken('ann', { exp: seconds(-10) }),
      getToken: async () => { asked += 1; return connectionToken('ann'); },
    });
    await one.connect();
    assert.equal(asked, 1);
    assert.equal(one.events.of('error').filter((event) => event.error.code === 109).length, 1);
  });

  forBoth(test, 'an expired token without getToken ends unauthorized', async ({ peer }) => {
    const one = peer(server.ws, { token: connectionToken('ann', { exp: seconds(-10) }) });
    one.client.connect();
    assert.equal((await one.events.next('disconnected')).code, 1);
  });

  forBoth(test, 'getToken provides the first token', async ({ peer }) => {
    await peer(server.ws, { getToken: async () => connectionToken('ann') }).connect();
  });

  forBoth(test, 'getToken that fails is tried again', async ({ peer }) => {
    let asked = 0;
    const one = peer(server.ws, {
      getToken: async () => {
        asked += 1;
        if (asked === 1) throw new Error('the backend is away');
        return connectionToken('ann');
      },
    });
    await one.connect();
    assert.equal(asked, 2);
  });

  forBoth(test, 'getToken that says unauthorized ends it', async ({ peer, encoding }) => {
    const one = peer(server.ws, { getToken: async () => { throw new unauthorized[encoding]('no'); } });
    one.client.connect();
    assert.equal((await one.events.next('disconnected')).code, 1);
  });

  forBoth(test, 'a connection that expires is refreshed and stays the same', async ({ peer }) => {
    let asked = 0;
    let enough;
    const twice = new Promise((resolve) => { enough = resolve; });
    const one = peer(server.ws, {
      token: connectionToken('ann', { exp: seconds(3) }),
      getToken: async () => {
        asked += 1;
        if (asked === 2) enough();
        return connectionToken('ann', { exp: seconds(3) });
      },
    });
    const { client } = await one.connect();
    await twice;
    await one.subscribe('refreshed');
    const { clients } = await one.client.presence('refreshed');
    assert.deepEqual(Object.keys(clients), [client]);
    assert.equal(one.events.of('connecting').length, 1, 'it never reconnected');
  });

  test('a connection that does not refresh is closed with 3005 after the grace', { timeout: 20_000 }, async () => {
    const raw = await Raw.connect(server.ws, { token: connectionToken('ann', { exp: seconds(3) }) });
    assert.equal(raw.connected.expires, true);
    assert.ok(raw.connected.ttl >= 1 && raw.connected.ttl <= 3, `ttl ${raw.connected.ttl}`);
    assert.deepEqual(await raw.end(), { code: 3005, reason: 'connection expired' });
  });

  test('expire_at counts instead of exp', { timeout: 20_000 }, async () => {
    const never = await Raw.connect(server.ws, { token: connectionToken('ann', { exp: seconds(3), expire_at: 0 }) });
    assert.equal(never.connected.expires, undefined);
    never.close();
    const soon = await Raw.connect(server.ws, { token: connectionToken('ann', { expire_at: seconds(100) }) });
    assert.ok(soon.connected.ttl > 90 && soon.connected.ttl <= 100, `ttl ${soon.connected.ttl}`);
    soon.close();
  });

  test('the handshake announces pings in seconds and asks for pongs', async (context) => {
    const raw = await Raw.connect(server.ws, { token: connectionToken('ann') });
    context.after(() => raw.close());
    assert.equal(raw.connected.ping, 25);
    assert.equal(raw.connected.pong, true);
    assert.equal(typeof raw.connected.version, 'string');
    assert.equal(raw.connected.session, undefined);
    assert.equal(raw.connected.node, undefined);
  });

  test('an offered subprotocol is echoed', async (context) => {
    for (const protocol of ['centrifuge-json', 'centrifuge-protobuf']) {
      const raw = await Raw.open(server.ws, { protocols: [protocol] });
      context.after(() => raw.close());
      assert.equal(raw.socket.protocol, protocol);
    }
  });

  test('format=protobuf and cf_protocol=protobuf choose the encoding', async (context) => {
    for (const query of ['format=protobuf', 'cf_protocol=protobuf']) {
      const raw = await Raw.open(`${server.ws}?${query}`);
      context.after(() => raw.close());
      // id 1, connect {}: refused without credentials, by code, so it was understood.
      raw.bytes(Buffer.from([4, 0x08, 1, 0x22, 0]));
      assert.equal((await raw.end()).code, 3501);
    }
  });
});

describe('connect: keys of other kinds', () => {
  const rsa = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
  const curves = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' };
  const pem = (key) => key.export({ type: 'spki', format: 'pem' });

  for (const alg of ['HS384', 'HS512']) {
    test(`${alg}`, { timeout: 30_000 }, async (context) => {
      const server = await startServer(open);
      context.after(() => server.stop());
      const raw = await Raw.connect(server.ws, { token: connectionToken('ann', {}, { alg }) });
      raw.close();
    });
  }

  forBoth(test, 'RS256, RS384, RS512 by rsa_public_key', async ({ peer, context }) => {
    const server = await startServer({ ...open, client: { token: { hmac_secret_key: '', rsa_public_key: pem(rsa.publicKey) } } });
    context.after(() => server.stop());
    for (const alg of ['RS256', 'RS384', 'RS512']) {
      await peer(server.ws, { token: connectionToken('ann', {}, { alg, key: rsa.privateKey }) }).connect();
    }
    // No HMAC key is configured, so HMAC is not accepted.
    const other = peer(server.ws, { token: connectionToken('ann') });
    other.client.connect();
    assert.equal((await other.events.next('disconnected')).code, 3500);
  });

  for (const [alg, namedCurve] of Object.entries(curves)) {
    forBoth(test, `${alg} by ecdsa_public_key`, async ({ peer, context }) => {
      const pair = crypto.generateKeyPairSync('ec', { namedCurve });
      const server = await startServer({ ...open, client: { token: { hmac_secret_key: '', ecdsa_public_key: pem(pair.publicKey) } } });
      context.after(() => server.stop());
      await peer(server.ws, { token: connectionToken('ann', {}, { alg, key: pair.privateKey }) }).connect();
    });
  }

  test('the previous HMAC secret is taken until its time', { timeout: 30_000 }, async (context) => {
    const previous = 'the-secret-that-was-in-use-before-this-one';
    for (const [until, code] of [[0, undefined], [seconds(3600), undefined], [seconds(-1), 3500]]) {
      const server = await startServer({
        ...open,
        client: { token: { hmac_previous_secret_key: previous, hmac_previous_secret_key_valid_until: until } },
      });
      context.after(() => server.stop());
      const raw = await Raw.open(server.ws);
      raw.send({ id: 1, connect: { token: connectionToken('ann', {}, { key: previous }) } });
      if (code === undefined) assert.ok((await raw.next()).connect);
      else assert.equal((await raw.end()).code, code);
      raw.close();
    }
  });

  test('audience, issuer and another user claim', { timeout: 30_000 }, async (context) => {
    const server = await startServer({
      ...open, client: { token: { audience: 'us', issuer: 'them', user_id_claim: 'user_name' } },
    });
    context.after(() => server.stop());
    const good = await Raw.connect(server.ws, { token: sign({ user_name: 'ann', aud: ['us', 'others'], iss: 'them' }) });
    await good.ask({ subscribe: { channel: 'who' } });
    const { presence } = await server.api('presence', { channel: 'who' });
    assert.deepEqual(Object.values(presence).map((info) => info.user), ['ann']);
    good.close();
    for (const claims of [{ user_name: 'ann', iss: 'them' }, { user_name: 'ann', aud: 'us' }, { user_name: 'ann', aud: 'me', iss: 'them' }]) {
      const raw = await Raw.open(server.ws);
      raw.send({ id: 1, connect: { token: sign(claims) } });
      assert.equal((await raw.end()).code, 3500, JSON.stringify(claims));
    }
  });
});

describe('connect: other ways in', () => {
  forBoth(test, 'anonymous without a token, where allowed', async ({ peer, context }) => {
    const server = await startServer({
      client: { allow_anonymous_connect_without_token: true },
      channel: { without_namespace: { allow_subscribe_for_client: true }, namespaces: [
        { name: 'public', allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true }] },
    });
    context.after(() => server.stop());
    const one = peer(server.ws);
    await one.connect();
    await one.subscribe('public:news');
    const closed = one.subscription('members');
    closed.sub.subscribe();
    assert.equal((await closed.events.next('unsubscribed')).code, 103);
  });

  forBoth(test, 'anonymous tokens, where forbidden, end with 3507', async ({ peer, context }) => {
    const server = await startServer({ client: { disallow_anonymous_connection_tokens: true } });
    context.after(() => server.stop());
    const one = peer(server.ws, { token: sign({ sub: '' }) });
    one.client.connect();
    assert.equal((await one.events.next('disconnected')).code, 3507);
  });

  forBoth(test, 'insecure mode needs no token and allows everything', async ({ peer, pack, context }) => {
    const server = await startServer({ client: { insecure: true }, channel: { without_namespace: { history_size: 5, history_ttl: '60s' } } });
    context.after(() => server.stop());
    const one = peer(server.ws);
    await one.connect();
    const { events } = await one.subscribe('anything');
    await one.client.publish('anything', pack('hello'));
    assert.equal(one.unpack((await events.next('publication')).data), 'hello');
    assert.equal((await one.client.history('anything', { limit: 10 })).publications.length, 1);
  });

  forBoth(test, 'the user named by a trusted header', async ({ peer, context }) => {
    const server = await startServer({ ...open, client: { user_id_http_header: 'X-User-Id' } });
    context.after(() => server.stop());
    const one = peer(server.ws, { websocket: countingWebSocket({ 'X-User-Id': 'ann' }) });
    const { client } = await one.connect();
    await one.subscribe('room');
    const { clients } = await one.client.presence('room');
    assert.equal(clients[client].user, 'ann');
  });

  forBoth(test, 'connections of one user beyond the limit end with 3504', async ({ peer, context }) => {
    const server = await startServer({ ...open, client: { user_connection_limit: 2 } });
    context.after(() => server.stop());
    const token = connectionToken('ann');
    await peer(server.ws, { token }).connect();
    const second = peer(server.ws, { token });
    await second.connect();
    const third = peer(server.ws, { token });
    third.client.connect();
    assert.equal((await third.events.next('disconnected')).code, 3504);
    await peer(server.ws, { token: connectionToken('bob') }).connect();
  });

  test('the server tells its time where asked to', { timeout: 20_000 }, async (context) => {
    const server = await startServer({ client: { connect_include_server_time: true } });
    context.after(() => server.stop());
    const raw = await Raw.connect(server.ws, { token: connectionToken('ann') });
    context.after(() => raw.close());
    assert.ok(Math.abs(raw.connected.time - Date.now()) < 60_000, `time ${raw.connected.time}`);
  });
});
