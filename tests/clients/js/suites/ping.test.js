// Pings of the protocol, and clients that stop answering them.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { forBoth } from '../lib/client.js';
import { Raw } from '../lib/raw.js';
import { startServer } from '../lib/server.js';
import { connectionToken } from '../lib/tokens.js';

describe('ping', () => {
  let server;
  before(async () => {
    server = await startServer({
      client: { ping_interval: '1s', pong_timeout: '900ms' },
      channel: { without_namespace: { allow_subscribe_for_client: true } },
    });
  });
  after(() => server.stop());

  const connect = () => Raw.connect(server.ws, { token: connectionToken('ann') });
  const isPing = (message) => JSON.stringify(message) === '{}';

  forBoth(test, 'an official client that is pinged stays connected', async ({ peer, context }) => {
    const one = peer(server.ws, { token: connectionToken('ann'), maxServerPingDelay: 1000 });
    await one.connect();
    const clock = await connect();
    context.after(() => clock.close());
    for (let pings = 0; pings < 4; pings += 1) {
      await clock.find(isPing);
      clock.send('{}');
    }
    // More than twice the longest time it could go on without being pinged.
    assert.equal(one.events.of('connecting').length, 1);
    assert.equal(one.events.of('disconnected').length, 0);
    await one.subscribe('still-there');
  });

  test('a client that stops answering is closed with 3012', { timeout: 20_000 }, async () => {
    const raw = await connect();
    await raw.find(isPing);
    raw.send('{}');
    await raw.find(isPing);
    assert.deepEqual(await raw.end(), { code: 3012, reason: 'no pong' });
  });

  test('another command does not count as an answer', { timeout: 20_000 }, async () => {
    const raw = await connect();
    await raw.find(isPing);
    await raw.ask({ subscribe: { channel: 'busy' } });
    assert.equal((await raw.end()).code, 3012);
  });

  test('bad_p3: a pong that nobody asked for ends with 3501', { timeout: 20_000 }, async () => {
    const raw = await connect();
    raw.send('{}');
    assert.equal((await raw.end()).code, 3501);
  });

  test('bad_p3: two pongs for one ping end with 3501', { timeout: 20_000 }, async () => {
    const raw = await connect();
    await raw.find(isPing);
    raw.send('{}', '{}');
    assert.equal((await raw.end()).code, 3501);
  });
});
