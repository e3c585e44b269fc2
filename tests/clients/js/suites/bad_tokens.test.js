// Tokens that nobody issued, against the real server.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';

import { MARKER, underAttack } from '../lib/attack.js';
import { Raw } from '../lib/raw.js';
import { HMAC_SECRET } from '../lib/server.js';
import { connectionToken, forge, seconds, sign, signature, subscriptionToken } from '../lib/tokens.js';

const rsa = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
const otherRsa = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ed = crypto.generateKeyPairSync('ed25519');
const pem = (key) => key.export({ type: 'spki', format: 'pem' });
const der = (key) => key.export({ type: 'spki', format: 'der' });

const config = {
  client: { token: { rsa_public_key: pem(rsa.publicKey), ecdsa_public_key: pem(ec.publicKey) } },
  channel: { without_namespace: { allow_subscribe_for_client: true }, namespaces: [{ name: 'log' }] },
};
const claims = { sub: 'mallory', info: { note: MARKER }, exp: seconds(3600) };
const dot = (header, body) => [header, body].map((each) => Buffer.from(JSON.stringify(each)).toString('base64url')).join('.');
const hs = (header, body = claims) => `${dot(header, body)}.${signature('HS256', dot(header, body), HMAC_SECRET)}`;
const nested = (depth) => `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;

/** 3500: invalid. */
const invalid = [
  ['j1: alg none', forge({ alg: 'none', typ: 'JWT' }, claims)],
  ['j1: alg None', forge({ alg: 'None' }, claims)],
  ['j1: alg NONE', forge({ alg: 'NONE' }, claims)],
  ['j1: alg none with a good signature', `${dot({ alg: 'none' }, claims)}.${signature('HS256', dot({ alg: 'none' }, claims), HMAC_SECRET)}`],
  ['j1: no alg', hs({ typ: 'JWT' })],
  ['j1: alg a list', hs({ alg: ['HS256'] })],
  ['j1: alg null', hs({ alg: null })],
  ['j1: alg in lower case', hs({ alg: 'hs256' })],
  ['j1: an unknown alg', hs({ alg: 'HS257' })],
  ['j1: an empty signature', forge({ alg: 'HS256' }, claims, '')],
  ['j1: another HMAC key', sign(claims, { key: 'another key than the one that is configured' })],
  ['j1: an empty HMAC key', sign(claims, { key: '' })],
  ['j1: HS256 with the RSA key as PEM', sign(claims, { key: pem(rsa.publicKey) })],
  ['j1: HS256 with the RSA key as PEM, trimmed', sign(claims, { key: pem(rsa.publicKey).trim() })],
  ['j1: HS256 with the RSA key as DER', sign(claims, { key: der(rsa.publicKey) })],
  ['j1: HS256 with the ECDSA key as PEM', sign(claims, { key: pem(ec.publicKey) })],
  ['j1: RS256 of another key', sign(claims, { alg: 'RS256', key: otherRsa.privateKey })],
  ['j1: PS256 of the RSA key', sign(claims, { alg: 'PS256', key: rsa.privateKey })],
  ['j1: RS256 said, PS256 made', `${dot({ alg: 'RS256' }, claims)}.${signature('PS256', dot({ alg: 'RS256' }, claims), rsa.privateKey)}`],
  ['j1: ES256 with zeros', `${dot({ alg: 'ES256' }, claims)}.${Buffer.alloc(64).toString('base64url')}`],
  ['j1: ES256 signature in DER', `${dot({ alg: 'ES256' }, claims)}.${crypto.sign('sha256', Buffer.from(dot({ alg: 'ES256' }, claims)), ec.privateKey).toString('base64url')}`],
  ['j1: ES384 by a key of P-256', sign(claims, { alg: 'ES384', key: ec.privateKey })],
  ['j1: EdDSA, for which no key is configured', `${dot({ alg: 'EdDSA' }, claims)}.${signature('Ed', dot({ alg: 'EdDSA' }, claims), ed.privateKey)}`],
  ['j1: a signature with its last byte changed', (() => { const good = sign(claims); const at = good.lastIndexOf('.') + 1; return good.slice(0, at) + (good[at] === 'A' ? 'B' : 'A') + good.slice(at + 1); })()],
  ['j1: claims changed after signing', (() => { const parts = sign(claims).split('.'); parts[1] = Buffer.from(JSON.stringify({ ...claims, sub: 'root' })).toString('base64url'); return parts.join('.'); })()],
  ['j2: an unknown crit', hs({ alg: 'HS256', crit: ['exp'], exp: 1 })],
  ['j3: exp as a string', sign({ ...claims, exp: 'tomorrow' })],
  ['j3: sub as a number', sign({ ...claims, sub: 7 })],
  ['j3: claims that are a list', sign([claims])],
  ['j3: a subscription token', subscriptionToken('mallory', 'log:x')],
  ['j3: channels that are no list', sign({ ...claims, channels: 'log:x' })],
  ['j4: one part', 'abc'],
  ['j4: two parts', sign(claims).split('.').slice(0, 2).join('.')],
  ['j4: four parts', `${sign(claims)}.x`],
  ['j4: five parts', `${sign(claims)}.x.y`],
  ['j4: dots', '..'],
  ['j4: not base64url', '!!!.!!!.!!!'],
  ['j4: spaces around', ` ${sign(claims)} `],
  ['j4: padding', `${dot({ alg: 'HS256' }, claims)}==.${signature('HS256', dot({ alg: 'HS256' }, claims), HMAC_SECRET)}`],
  ['j4: no JSON', `${Buffer.from('x').toString('base64url')}.${Buffer.from('y').toString('base64url')}.z`],
  ['j4: a header of depth 1000', `${Buffer.from(nested(1000)).toString('base64url')}.e30.AA`],
  ['j4: 33 KiB', sign({ ...claims, info: 'x'.repeat(33 * 1024) })],
  ['j4: text of many scripts', 'токен.世界.🐦'],
];

/** 109: it was good once, or will be. */
const expired = [
  ['j3: expired', connectionToken('mallory', { exp: seconds(-1) })],
  ['j3: expired long ago', connectionToken('mallory', { exp: 1 })],
  ['j3: not before tomorrow', connectionToken('mallory', { nbf: seconds(86_400) })],
];

underAttack('bad tokens', config, (attack) => {
  for (const [name, token] of invalid) {
    attack(`bad_${name}: 3500`, async (server) => {
      const raw = await Raw.open(server.ws);
      raw.send({ id: 1, connect: { token } });
      assert.deepEqual(await raw.end(), { code: 3500, reason: 'invalid token' });
      const last = token.split('.').at(-1);
      if (last.length > 20) assert.ok(!server.log.includes(last), 'the token is in the log');
    }, { log: /3500|invalid token/ });
  }

  for (const [name, token] of expired) {
    attack(`bad_${name}: 109`, async (server, context) => {
      const raw = await Raw.open(server.ws);
      context.after(() => raw.close());
      raw.send({ id: 1, connect: { token } });
      assert.deepEqual(await raw.next(), { id: 1, error: { code: 109, message: 'token expired' } });
      assert.ok(!server.log.includes(token.split('.').at(-1)), 'the token is in the log');
    }, { log: /109|expired/ });
  }

  attack('bad_j3: a refresh with a token of another user: 3500', async (server) => {
    const raw = await Raw.connect(server.ws, { token: connectionToken('mallory') });
    raw.send({ id: 2, refresh: { token: connectionToken('root') } });
    assert.equal((await raw.end()).code, 3500);
  }, { log: /3500/ });

  attack('bad_j3: a refresh with an expired token: 3005', async (server) => {
    const raw = await Raw.connect(server.ws, { token: connectionToken('mallory') });
    raw.send({ id: 2, refresh: { token: connectionToken('mallory', { exp: 1 }) } });
    assert.equal((await raw.end()).code, 3005);
  }, { log: /3005/ });

  attack('bad_j1: a subscription token with alg none: 103', async (server, context) => {
    const raw = await Raw.connect(server.ws, { token: connectionToken('mallory') });
    context.after(() => raw.close());
    const { error } = await raw.ask({ subscribe: { channel: '$x', token: forge({ alg: 'none' }, { sub: 'mallory', channel: '$x' }) } });
    assert.equal(error.code, 103);
  }, { log: /\b103\b/ });

  attack('odd but lawful: tokens of every configured kind, without exp, with claims of others', async (server) => {
    for (const token of [
      sign({ sub: 'ann' }), sign({}), sign({ sub: 'ann', exp: seconds(10), nbf: seconds(-10), iat: seconds(-10), jti: 'x', more: [1] }),
      sign({ sub: 'ann' }, { alg: 'RS256', key: rsa.privateKey }), sign({ sub: 'ann' }, { alg: 'ES256', key: ec.privateKey }),
      sign({ sub: 'ann' }, { header: { kid: '../../etc/passwd', jku: 'http://127.0.0.1:1/keys', x5u: 'x' } }),
      sign({ sub: 'ü'.repeat(300) }),
    ]) {
      const raw = await Raw.connect(server.ws, { token });
      raw.close();
    }
  });
});
