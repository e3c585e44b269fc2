// Tokens whose keys the server fetches from their issuer.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Peer, forBoth } from '../lib/client.js';
import { ALGORITHMS, Issuer, keyPair, verifiedBy } from '../lib/jwks.js';
import { Raw } from '../lib/raw.js';
import { freePort, startServer } from '../lib/server.js';
import { connectionToken, seconds } from '../lib/tokens.js';
import { eventually } from '../lib/wait.js';

const channels = { without_namespace: { presence: true } };
const claims = (more = {}) => ({ sub: 'ann', exp: seconds(3600), ...more });

/** How a connection with this token ends: `connected`, or the code. */
async function told(server, token) {
  const one = new Peer('json', server.ws, { token });
  one.client.connect();
  const event = await one.events.next(undefined).then(() => one.events.next());
  one.close();
  return event.name === 'connected' ? 'connected' : event.code;
}

describe('jwks', () => {
  const keys = Object.fromEntries(ALGORITHMS.map((alg) => [alg, keyPair(alg, `key of ${alg}`)]));
  let issuer;
  let server;
  before(async () => {
    issuer = await Issuer.start(Object.values(keys));
    server = await startServer({ client: { token: verifiedBy(issuer.url) }, channel: channels });
  });
  after(async () => { await server.stop(); await issuer.stop(); });

  for (const alg of ALGORITHMS) {
    forBoth(test, `${alg}: connect, refresh and subscribe with published keys`, async ({ peer, unpack }) => {
      let asked = 0;
      let enough;
      const refreshed = new Promise((resolve) => { enough = resolve; });
      const one = peer(server.ws, {
        token: keys[alg].sign(claims({ exp: seconds(3), info: { alg } })),
        getToken: async () => { asked += 1; enough(); return keys[alg].sign(claims()); },
      });
      const { client } = await one.connect();
      await refreshed;
      const channel = `$${alg}`;
      const { first } = await one.subscribe(channel, { token: keys[alg].sign(claims({ channel })) });
      assert.equal(first.channel, channel);
      const { presence } = await server.api('presence', { channel });
      assert.deepEqual(Object.keys(presence), [client]);
      assert.deepEqual([presence[client].user, presence[client].conn_info], ['ann', { alg }]);
      assert.equal(one.events.of('connecting').length, 1);
      assert.equal(unpack(undefined), undefined);
    });

    test(`${alg}: an expired token is replaced by the next one`, { timeout: 20_000 }, async (context) => {
      const one = new Peer('json', server.ws, {
        token: keys[alg].sign(claims({ exp: seconds(-10) })), getToken: async () => keys[alg].sign(claims()),
      });
      context.after(() => one.close());
      await one.connect();
      assert.equal(one.events.of('error').filter((event) => event.error.code === 109).length, 1);
    });
  }

  test('however many use them, the keys are fetched once', async () => {
    assert.equal(issuer.asked, 1);
  });

  test('bad_j5: tokens that no published key has signed are refused for good', { timeout: 60_000 }, async () => {
    const stranger = keyPair('EdDSA', keys.EdDSA.kid);
    const { RS256, ES256, EdDSA } = keys;
    for (const [what, token] of [
      ['another key under a known id', stranger.sign(claims())],
      ['no id', EdDSA.sign(claims(), { kid: undefined })],
      ['an empty id', EdDSA.sign(claims(), { kid: '' })],
      ['an unknown id', EdDSA.sign(claims(), { kid: 'of nobody' })],
      ['the id of a key of another kind', ES256.sign(claims(), { kid: RS256.kid })],
      ['EdDSA said, with the id of a key of RSA', EdDSA.sign(claims(), { kid: RS256.kid })],
      ['the key in the header', stranger.sign(claims(), { kid: 'of nobody', jwk: stranger.jwk })],
      ['the address of keys in the header', stranger.sign(claims(), { kid: 'of nobody', jku: issuer.url })],
      ['HMAC with what is published', connectionToken('ann', {}, { key: JSON.stringify(EdDSA.jwk), header: { kid: EdDSA.kid } })],
      ['HMAC as in other configurations', connectionToken('ann')],
      ['none', EdDSA.sign(claims(), { alg: 'none' })],
    ]) {
      assert.equal(await told(server, token), 3500, what);
    }
    const [before, begun] = [issuer.asked, performance.now()];
    for (let n = 0; n < 30; n += 1) await told(server, EdDSA.sign(claims(), { kid: `unknown ${n}` }));
    // One at most in ten seconds.
    const allowed = 1 + Math.floor((performance.now() - begun) / 10_000);
    assert.ok(issuer.asked - before <= allowed, `${issuer.asked - before} fetches for 30 unknown ids`);
    assert.equal(await told(server, EdDSA.sign(claims())), 'connected', 'and nobody else is kept out');
  });
});

test('a key that the issuer adds is found; one that it takes away is good until the keys are fetched again', { timeout: 60_000 }, async (context) => {
  const [old, next] = [keyPair('ES256', '2026-10'), keyPair('EdDSA', '2026-11')];
  const issuer = await Issuer.start([old]);
  context.after(() => issuer.stop());
  const server = await startServer({ client: { token: verifiedBy(issuer.url) } });
  context.after(() => server.stop());
  assert.equal(await told(server, old.sign(claims())), 'connected');
  assert.equal(await told(server, next.sign(claims())), 3500, 'not published yet');
  issuer.keys = [next];
  assert.equal(await told(server, old.sign(claims())), 'connected', 'nobody has asked since');
  // At most one fetch in ten seconds, so it takes a while.
  await eventually('the new key is found', async () => await told(server, next.sign(claims())) === 'connected',
    { timeout: 20_000, every: 250 });
  assert.equal(issuer.asked, 2);
  assert.equal(await told(server, old.sign(claims())), 3500);
});

test('subscription tokens may have an issuer of their own', { timeout: 30_000 }, async (context) => {
  const [ours, theirs] = [keyPair('RS256', 'a'), keyPair('EdDSA', 'a')];
  const [first, second] = [await Issuer.start([ours]), await Issuer.start([theirs])];
  context.after(async () => { await first.stop(); await second.stop(); });
  const server = await startServer({
    client: { token: verifiedBy(first.url), subscription_token: { enabled: true, ...verifiedBy(second.url) } },
  });
  context.after(() => server.stop());
  assert.equal(await told(server, theirs.sign(claims())), 3500);
  const one = new Peer('protobuf', server.ws, { token: ours.sign(claims()) });
  context.after(() => one.close());
  await one.connect();
  await one.subscribe('$a', { token: theirs.sign(claims({ channel: '$a' })) });
  const refused = one.subscription('$b', { token: ours.sign(claims({ channel: '$b' })) });
  refused.sub.subscribe();
  assert.equal((await refused.events.next('unsubscribed')).code, 103);
});

test('clients wait while the issuer is away, and come in when it is back', { timeout: 60_000 }, async (context) => {
  const key = keyPair('EdDSA', 'a');
  const port = await freePort();
  const url = `http://127.0.0.1:${port}/keys`;
  const server = await startServer({ client: { token: verifiedBy(url) } });
  context.after(() => server.stop());

  // The reason is not the client's affair, so it may come again; others are served meanwhile.
  const raw = await Raw.open(server.ws);
  context.after(() => raw.close());
  raw.send({ id: 1, connect: { token: key.sign(claims()) } });
  const first = await raw.next();
  assert.deepEqual([first.error?.code, first.error?.temporary], [100, true]);
  assert.match(server.log, /token keys could not be fetched/);
  assert.equal((await fetch(`${server.http}/health`)).status, 200);

  const one = new Peer('json', server.ws, { token: key.sign(claims()), maxReconnectDelay: 500 });
  context.after(() => one.close());
  one.client.connect();
  await one.events.next('error');
  const issuer = await Issuer.start([key], port);
  context.after(() => issuer.stop());
  await one.events.next('connected', 20_000);
  assert.equal(one.events.of('disconnected').length, 0);
  // Keys that are here stay good while it is away again.
  await issuer.stop();
  assert.equal(await told(server, key.sign(claims())), 'connected');
});
