// The real binary with `--dev`, and its page in Chromium.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { chromium } from 'playwright-core';

import { freePort, spawnServer } from '../../clients/js/lib/server.js';
import { eventually } from '../../clients/js/lib/wait.js';

const folder = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../../artifacts/demo');

/** Milliseconds after which a wait of the browser has failed; a busy machine is slow. */
const PATIENCE = 20_000;

/** What keeps Chromium from talking to anybody but the page's server. */
const ALONE = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];

export const launch = () => chromium.launch({
  executablePath: process.env.TIDEWIRE_CHROMIUM ?? '/usr/bin/chromium', args: ALONE,
});

/** Starts a server of one's own and returns once it answers. */
export async function startServer(config = {}) {
  const server = spawnServer(config, await freePort(), { args: ['--dev'] });
  await eventually('the server answers', async () => {
    if (server.how) throw Object.assign(new Error(server.log), { final: true });
    return (await fetch(`${server.http}/health`)).ok;
  });
  return server;
}

/** The page of a server in a context of its own, both clients live. */
export class DemoPage {
  static async open(browser, server, options = {}) {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    const demo = new DemoPage(context, page);
    await page.goto(server.http);
    for (const pane of [demo.ada, demo.ben]) await pane.says('live');
    return demo;
  }

  constructor(context, page) {
    this.context = context;
    this.page = page;
    this.complaints = [];
    this.requests = [];
    this.sockets = [];
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) this.complaints.push(message.text());
    });
    page.on('pageerror', (error) => this.complaints.push(String(error)));
    page.on('requestfailed', (request) => this.complaints.push(`${request.url()}: ${request.failure()?.errorText}`));
    page.on('request', (request) => this.requests.push(request.url()));
    page.on('websocket', (socket) => this.sockets.push(socket));
    this.ada = new PaneOfPage(page, 'Ada');
    this.ben = new PaneOfPage(page, 'Ben');
  }

  async screenshot(name) {
    mkdirSync(folder, { recursive: true });
    // Nothing is pointed at, and colours that fade have faded.
    await this.page.mouse.move(0, 0);
    await this.page.screenshot({ path: path.join(folder, `${name}.png`), fullPage: true, animations: 'disabled' });
  }

  /** Closes it; fails if the browser complained. */
  async close() {
    // Closing breaks off what is under way, which is no fault of the page.
    const complaints = [...this.complaints];
    await this.context.close();
    assert.deepEqual(complaints, []);
  }
}

/** One client as the page shows it, found by what a screen reader would say. */
class PaneOfPage {
  constructor(page, name) {
    this.name = name;
    this.region = page.getByRole('region', { name: `Client ${name}` });
    this.state = this.region.getByRole('status');
    this.log = this.region.getByRole('log', { name: `Messages ${name} has` });
    this.sendButton = this.region.getByRole('button', { name: `Send as ${name}` });
  }

  /** Waits until the state line is this. */
  async says(text) {
    await this.state.filter({ hasText: new RegExp(`^${text}$`) }).waitFor();
  }

  async send(text) {
    await this.region.getByLabel(`Message from ${this.name}`).fill(text);
    await this.sendButton.click();
  }

  /** Waits until a message is there. */
  async has(text) { await this.log.getByText(text, { exact: true }).waitFor(); }

  async cut() { await this.region.getByRole('button', { name: `Cut the network of ${this.name}` }).click(); }
  async restore() { await this.region.getByRole('button', { name: `Restore the network of ${this.name}` }).click(); }

  /** Waits until so many are present and returns their names. */
  async present(count) {
    const names = this.region.getByRole('list', { name: `Present as ${this.name} sees it` }).getByRole('listitem');
    await eventually(`${count} present at ${this.name}`, async () => (await names.count()) === count, { timeout: PATIENCE });
    return names.allTextContents();
  }

  /** Every line of the log: messages as offset, sender and text, with `recovered` if it says so; marks as text. */
  lines() {
    return this.log.getByRole('listitem').evaluateAll((items) => items.map((item) => {
      const part = (name) => item.querySelector(name)?.textContent;
      if (part('.text') === undefined) return item.textContent;
      return { offset: part('.offset'), sender: part('.sender'), text: part('.text'), recovered: part('.tag') === 'recovered' };
    }));
  }

  async messages() { return (await this.lines()).filter((line) => typeof line !== 'string'); }
}
