// What a newcomer sees at the URL that `tidewire serve --dev` prints.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { eventually } from '../clients/js/lib/wait.js';
import { DemoPage, launch, startServer } from './lib/page.js';

const figure = async (demo, id) => Number(await demo.page.locator(`#${id}`).textContent());

describe('the demo page', { timeout: 180_000 }, () => {
  let browser;
  before(async () => { browser = await launch(); });
  after(async () => { await browser?.close(); });

  /** A test with a server and a page of its own; a complaint of the browser fails it. */
  const onPage = (name, body, options) => test(name, { timeout: 120_000 }, async (context) => {
    const server = await startServer();
    context.after(() => server.stop());
    const demo = await DemoPage.open(browser, server, options);
    await body({ demo, server, ...demo });
    await demo.close();
  });

  onPage('a message written in one pane is seen in both, and both are present', async ({ demo, server, ada, ben }) => {
    assert.ok(server.log.includes(`${server.http}/\n`), 'the banner tells where the page is');
    assert.deepEqual(await ada.present(2), ['Ada', 'Ben']);
    assert.deepEqual(await ben.present(2), ['Ada', 'Ben']);
    await ada.send('<b>hello</b> from Ada');
    await ben.has('<b>hello</b> from Ada');
    await ben.send('and back');
    await ada.has('and back');
    const wanted = [
      { offset: '#1', sender: 'Ada', text: '<b>hello</b> from Ada', recovered: false },
      { offset: '#2', sender: 'Ben', text: 'and back', recovered: false },
    ];
    await eventually('both have both', async () => (await ada.messages()).length === 2 && (await ben.messages()).length === 2);
    assert.deepEqual(await ada.messages(), wanted);
    assert.deepEqual(await ben.messages(), wanted);
    for (const url of demo.requests) assert.ok(url.startsWith(`${server.http}/`), `${url} is of another host`);
  });

  onPage('inv_d1 a pane whose network was cut gets what it missed once, in order, and says so', async ({ demo, server, ada, ben }) => {
    for (const text of ['one', 'two']) {
      await ada.send(text);
      await ben.has(text);
    }
    await ben.cut();
    await ben.says('network cut at offset 2');
    assert.deepEqual(await ada.present(1), ['Ada'], 'the server has noticed');
    assert.ok(await ben.sendButton.isDisabled());
    await ben.region.getByText(/^([2-9]|\d{2,}) attempts refused$/).waitFor();
    for (const text of ['three', 'four', 'five']) {
      await ada.send(text);
      await ada.has(text);
    }
    assert.equal(demo.sockets.length, 2, 'nothing was opened while the network was cut');
    assert.equal(demo.sockets.filter((socket) => socket.isClosed()).length, 1);
    assert.deepEqual((await ben.messages()).map(({ text }) => text), ['one', 'two']);

    await ben.restore();
    await ben.says('recovered 3 missed messages from offset 2');
    await ada.send('six');
    await ben.has('six');
    const message = (offset, text, recovered) => ({ offset: `#${offset}`, sender: 'Ada', text, recovered });
    assert.deepEqual(await ben.lines(), [
      message(1, 'one', false), message(2, 'two', false),
      'network cut after offset 2',
      message(3, 'three', true), message(4, 'four', true), message(5, 'five', true),
      'back, 3 recovered',
      message(6, 'six', false),
    ]);
    assert.deepEqual(await ada.present(2), ['Ada', 'Ben']);
    assert.equal(await server.metric('tidewire_recovered_total'), 1);
    assert.equal(demo.sockets.length, 3);
  });

  onPage('a pane that missed nothing says that', async ({ ada }) => {
    await ada.send('one');
    await ada.has('one');
    await ada.cut();
    await ada.restore();
    await ada.says('back, nothing was missed since offset 1');
  });

  onPage('inv_d2 a pane that was away for longer than the history says what it cannot get', async ({ server, ada, ben }) => {
    await ada.send('one');
    await ben.has('one');
    await ben.cut();
    await server.publishAll('demo', Array.from({ length: 150 }, (_, index) => ({ text: `flood ${index}` })));
    await ben.restore();
    await ben.says('live, but what came after offset 1 is no longer in the history');
    await ada.send('later');
    await ben.has('later');
    assert.deepEqual((await ben.messages()).map(({ offset }) => offset), ['#1', '#152']);
  });

  onPage('connections and rates follow the server', async ({ demo }) => {
    await eventually('two connections', async () => (await figure(demo, 'connections')) === 2);
    await demo.page.getByLabel('A backend publishes twice a second over the HTTP API').check();
    await demo.ada.has('tick 3');
    await eventually('messages flow', async () => (await figure(demo, 'messages')) >= 1);
    await eventually('to two clients each', async () => (await figure(demo, 'deliveries')) >= 2);
    await demo.page.getByLabel('A backend publishes twice a second over the HTTP API').uncheck();
    await eventually('messages stop', async () => (await figure(demo, 'messages')) === 0);
  });

  for (const [width, height] of [[1280, 800], [400, 860]]) {
    for (const colorScheme of ['light', 'dark']) {
      onPage(`fits ${width} pixels, ${colorScheme}`, async ({ demo, ada, ben }) => {
        for (const [from, text] of [[ada, 'Is the ferry in yet?'], [ben, 'Just passed the pier.'], [ada, 'Good. Tell me when you are off board, I wait at the café.']]) {
          await from.send(text);
          await (from === ada ? ben : ada).has(text);
        }
        await ben.cut();
        for (const text of ['Are you there?', 'I think you are in the tunnel', 'See you in five minutes']) {
          await ada.send(text);
          await ada.has(text);
        }
        await demo.screenshot(`${width}-${colorScheme}-cut`);
        await ben.restore();
        await ben.says('recovered 3 missed messages from offset 3');
        await ada.present(2);
        const wide = await demo.page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= width, `${wide} pixels wide`);
        await eventually('figures', async () => (await figure(demo, 'connections')) === 2);
        await demo.screenshot(`${width}-${colorScheme}-recovered`);
      }, { viewport: { width, height }, colorScheme });
    }
  }
});
