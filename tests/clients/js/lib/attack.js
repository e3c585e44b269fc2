// One server, fifty witnesses, and a table of things that should not have been sent.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { API_KEY, HMAC_SECRET, startServer } from './server.js';
import { eventually } from './wait.js';
import { Witnesses } from './witness.js';

/** Every payload, token and name that these tests send carries it; no log may. */
export const MARKER = 'marker-7f3a-must-not-be-logged';

/**
 * Runs the body of each test against one server while fifty other clients go on receiving.
 *
 * `body(attack)` defines tests by `attack(name, run, { log })`: after `run(server)` the witnesses still get every beat,
 * and the server's log has gained a line that matches `log`. At the end no secret is in the log and nothing panicked.
 */
export function underAttack(title, config, body) {
  describe(title, () => {
    let server;
    let witnesses;
    before(async () => {
      server = await startServer(config);
      witnesses = await Witnesses.of(server);
    });
    after(async () => {
      witnesses?.close();
      await server?.stop();
    });

    body((name, run, { log, timeout = 30_000 } = {}) => {
      test(name, { timeout }, async (context) => {
        const mark = server.logMark();
        await run(server, context);
        await witnesses.beat();
        if (log) {
          await eventually(`a log line like ${log}, got:\n${server.logSince(mark).slice(0, 2000)}`,
            () => log.test(server.logSince(mark)));
        }
      });
    });

    test('afterwards: fifty clients missed nothing, nothing panicked, no secret is in the log', async () => {
      await witnesses.beat();
      for (const secret of [MARKER, API_KEY, HMAC_SECRET]) assert.ok(!server.log.includes(secret), `the log holds ${secret}`);
      assert.doesNotMatch(server.log, /panicked/);
      assert.equal(await server.metric('tidewire_contained_panics_total'), 0);
    });
  });
}
