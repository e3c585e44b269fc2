// JSON web tokens, made by hand so that wrong ones can be made as well.

import crypto from 'node:crypto';

import { HMAC_SECRET } from './server.js';

const part = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

/**
 * Seconds since 1970, `offset` from now. The second that has begun counts, so what expires at `seconds(3)` is good for two to
 * three seconds.
 */
export const seconds = (offset = 0) => Math.floor(Date.now() / 1000) + offset;

/** Signs `input` as RFC 7518 says for `alg`. */
export function signature(alg, input, key) {
  const hash = `sha${alg.slice(2)}`;
  switch (alg.slice(0, 2)) {
    case 'HS': return crypto.createHmac(hash, key).update(input).digest('base64url');
    case 'RS': return crypto.sign(hash, Buffer.from(input), key).toString('base64url');
    case 'PS': return crypto.sign(hash, Buffer.from(input), {
      key, padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: crypto.constants.RSA_PSS_SALTLEN_DIGEST,
    }).toString('base64url');
    case 'ES': return crypto.sign(hash, Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url');
    case 'Ed': return crypto.sign(null, Buffer.from(input), key).toString('base64url');
    default: throw new Error(`no such algorithm: ${alg}`);
  }
}

/** A signed token; `header` is laid over the usual one. */
export function sign(claims, { alg = 'HS256', key = HMAC_SECRET, header = {} } = {}) {
  const input = `${part({ alg, typ: 'JWT', ...header })}.${part(claims)}`;
  return `${input}.${signature(alg, input, key)}`;
}

/** A token with this header and this signature, whatever they are. */
export function forge(header, claims, signed = '') {
  return `${part(header)}.${part(claims)}.${signed}`;
}

/** A connection token of a user, good for an hour unless the claims say otherwise. */
export const connectionToken = (sub, claims = {}, options = {}) => sign({ sub, exp: seconds(3600), ...claims }, options);

/** A subscription token of a user for a channel. */
export const subscriptionToken = (sub, channel, claims = {}, options = {}) =>
  sign({ sub, channel, exp: seconds(3600), ...claims }, options);
