// An issuer that publishes its keys (RFC 7517) on loopback, and signs with them.

import crypto from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';

import { sign } from './tokens.js';

const made = {
  RS256: () => crypto.generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: () => crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ES384: () => crypto.generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  ES512: () => crypto.generateKeyPairSync('ec', { namedCurve: 'P-521' }),
  EdDSA: () => crypto.generateKeyPairSync('ed25519'),
};

/** Every algorithm that an issuer may publish keys for. */
export const ALGORITHMS = Object.keys(made);

/** A key pair with an id. */
export function keyPair(alg, kid) {
  const { privateKey, publicKey } = made[alg]();
  return {
    alg,
    kid,
    jwk: { ...publicKey.export({ format: 'jwk' }), kid, alg, use: 'sig' },
    /** A token of this key; `header` is laid over the usual one. */
    sign: (claims, header = {}) => sign(claims, { alg, key: privateKey, header: { kid, ...header } }),
  };
}

/** Serves a set of keys that may change, and counts how often it is asked for. */
export class Issuer {
  static async start(keys, port = 0) {
    const issuer = new Issuer();
    issuer.keys = keys;
    issuer.asked = 0;
    issuer.listener = http.createServer((request, response) => {
      issuer.asked += 1;
      response.setHeader('content-type', 'application/jwk-set+json');
      response.end(JSON.stringify({ keys: issuer.keys.map((key) => key.jwk) }));
    });
    issuer.listener.listen(port, '127.0.0.1');
    await once(issuer.listener, 'listening');
    issuer.port = issuer.listener.address().port;
    return issuer;
  }

  get url() { return `http://127.0.0.1:${this.port}/keys`; }

  async stop() {
    this.listener.close();
    this.listener.closeAllConnections();
    await once(this.listener, 'close');
  }
}

/** The part of a configuration that has tokens verified by the issuer at `url` alone. */
export const verifiedBy = (url) => ({
  hmac_secret_key: '', jwks_public_endpoint: url, insecure_skip_jwks_endpoint_safety_check: true,
});
