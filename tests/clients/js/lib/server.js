// The real binary, started with a configuration of its own on a free port.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { eventually } from './wait.js';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../../..');

/** The binary under test: `TIDEWIRE_BIN`, or what `cargo build` leaves. */
export const binary = process.env.TIDEWIRE_BIN
  ?? path.join(process.env.CARGO_TARGET_DIR ?? path.join(root, 'target'), 'debug', 'tidewire');

export const API_KEY = 'api-key-of-these-tests-which-must-not-be-logged';
export const HMAC_SECRET = 'hmac-secret-of-these-tests-which-must-not-be-logged';

/** Merges plain objects, the right one winning; lists are replaced. */
export function merge(base, over) {
  if (over === undefined) return base;
  if (typeof base !== 'object' || base === null || Array.isArray(base)) return over;
  if (typeof over !== 'object' || over === null || Array.isArray(over)) return over;
  const out = { ...base };
  for (const [key, value] of Object.entries(over)) out[key] = merge(base[key], value);
  return out;
}

const defaults = {
  log: { level: 'debug' },
  health: { enabled: true },
  prometheus: { enabled: true },
  http_api: { key: API_KEY },
  shutdown: { spread: '50ms' },
  client: {
    allowed_origins: [],
    token: { hmac_secret_key: HMAC_SECRET },
  },
};

/**
 * A port that nothing listens on now, below those that the system gives to clients: a server that is started again where it
 * was would find one of those taken.
 */
export async function freePort() {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const probe = net.createServer();
    probe.listen(port, '127.0.0.1');
    try {
      await once(probe, 'listening');
    } catch {
      continue;
    }
    probe.close();
    await once(probe, 'close');
    return port;
  }
}

/** Environment of a child process without the variables that the binary would read. */
export function cleanEnvironment(extra = {}) {
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(TIDEWIRE|CENTRIFUGO|RUST)_/.test(name)),
  );
  return { ...env, ...extra };
}

/** A running server. `stop` it, or give the test context so that it is stopped. */
export class Server {
  constructor(port, child, folder) {
    this.port = port;
    this.child = child;
    this.folder = folder;
    this.log = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text) => { this.log += text; });
    }
    this.exited = new Promise((resolve) => {
      child.on('exit', (code, signal) => resolve({ code, signal }));
    });
    this.exited.then((how) => { this.how = how; });
  }

  get http() { return `http://127.0.0.1:${this.port}`; }
  get ws() { return `ws://127.0.0.1:${this.port}/connection/websocket`; }
  /** Where clients connect if the server was started with `tls`. */
  get wss() { return `wss://127.0.0.1:${this.tlsPort}/connection/websocket`; }

  /** Calls a method of the HTTP API; an `error` in the answer is thrown. */
  async api(method, params = {}) {
    const answer = await this.call(method, params);
    if (answer.error) {
      throw Object.assign(new Error(`${method}: ${answer.error.code} ${answer.error.message}`), answer.error);
    }
    return answer.result ?? answer;
  }

  /** Calls a method of the HTTP API and returns the answer as it is. */
  async call(method, params = {}, headers = {}) {
    const response = await fetch(`${this.http}/api/${method}`, {
      method: 'POST',
      headers: { 'X-API-Key': API_KEY, 'Content-Type': 'application/json', ...headers },
      body: JSON.stringify(params),
    });
    if (response.status !== 200) throw new Error(`${method}: HTTP ${response.status} ${await response.text()}`);
    return response.json();
  }

  publish(channel, data, more = {}) {
    return this.api('publish', { channel, data, ...more });
  }

  /** Publishes one after the other, so that their order is given. */
  async publishAll(channel, list) {
    for (let at = 0; at < list.length; at += 100) {
      const commands = list.slice(at, at + 100).map((data) => ({ publish: { channel, data } }));
      const { replies } = await this.call('batch', { commands });
      for (const reply of replies) if (reply.error) throw new Error(JSON.stringify(reply.error));
    }
  }

  /** Where the log stands, for `logSince`. */
  logMark() { return this.log.length; }
  logSince(mark) { return this.log.slice(mark); }

  async metric(name) {
    const text = await (await fetch(`${this.http}/metrics`)).text();
    const line = text.split('\n').find((each) => each.startsWith(`${name} `) || each.startsWith(`${name}{`));
    return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ')));
  }

  async stop(signal = 'SIGTERM') {
    if (this.how === undefined) {
      this.child.kill(signal);
      const late = setTimeout(() => this.child.kill('SIGKILL'), 10_000);
      await this.exited;
      clearTimeout(late);
    }
    rmSync(this.folder, { recursive: true, force: true });
    return this.how;
  }
}

/** Writes a configuration into a folder of its own and spawns the binary with it; does not wait. */
export function spawnServer(config, port, { env = {}, wrap = [], args = [] } = {}) {
  const folder = mkdtempSync(path.join(tmpdir(), 'tidewire-test-'));
  const file = path.join(folder, 'config.json');
  const text = typeof config === 'string'
    ? config : JSON.stringify(merge(config, { http_server: { address: '127.0.0.1', port } }), null, 2);
  writeFileSync(file, text);
  const [program, ...rest] = [...wrap, binary, 'serve', '--config', file, ...args];
  const child = spawn(program, rest, { cwd: folder, env: cleanEnvironment(env), stdio: ['ignore', 'pipe', 'pipe'] });
  return new Server(port, child, folder);
}

/**
 * Starts a server and returns once it answers. `config` is laid over a small default one. With `tls`, a certificate and its
 * key, clients connect by TLS to a port of their own.
 */
export async function startServer(config = {}, options = {}) {
  const port = options.port ?? await freePort();
  const tlsPort = options.tls && await freePort();
  const listeners = options.tls && {
    http_server: {
      tls: { enabled: true, cert_pem: options.tls.certificate, key_pem: options.tls.key },
      tls_external: true, internal_address: '127.0.0.1', internal_port: port,
    },
  };
  const server = spawnServer(merge(merge(defaults, config), listeners), tlsPort ?? port, options);
  Object.assign(server, { port, tlsPort });
  try {
    await eventually('the server answers', async () => {
      if (server.how) throw Object.assign(new Error(`the server left: ${JSON.stringify(server.how)}\n${server.log}`), { final: true });
      const response = await fetch(`${server.http}/health`);
      return response.status === 200;
    }, { timeout: 15_000 });
  } catch (error) {
    await server.stop('SIGKILL');
    throw error;
  }
  return server;
}
