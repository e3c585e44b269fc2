// HAProxy of the system with docs/haproxy.cfg, the file that users copy: only the ports in it are other ones.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { cleanEnvironment, freePort } from './server.js';
import { eventually } from './wait.js';

const shown = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../../../docs/haproxy.cfg');

export class Balancer {
  /** In front of the nodes that listen on these three ports; returns once it has found all of them ready. */
  static async before(ports) {
    const balancer = new Balancer();
    [balancer.port, balancer.apiPort] = [await freePort(), await freePort()];
    balancer.folder = mkdtempSync(path.join(tmpdir(), 'tidewire-test-'));
    const places = { 8000: balancer.port, 8001: ports[0], 8002: ports[1], 8003: ports[2], 8004: balancer.apiPort };
    const text = readFileSync(shown, 'utf8').replace(/\b800[0-4]\b/g, (port) => String(places[port]));
    writeFileSync(path.join(balancer.folder, 'haproxy.cfg'), text);
    balancer.log = '';
    const stdio = ['ignore', 'ignore', 'pipe'];
    balancer.child = spawn('haproxy', ['-f', 'haproxy.cfg'], { cwd: balancer.folder, env: cleanEnvironment(), stdio });
    balancer.child.stderr.setEncoding('utf8').on('data', (data) => { balancer.log += data; });
    balancer.exited = new Promise((resolve) => {
      balancer.child.on('error', (error) => { balancer.how = error; resolve(); });
      balancer.child.on('exit', (code) => { balancer.how ??= code; resolve(); });
    });
    await eventually('HAProxy finds the nodes ready', async () => {
      if (balancer.how !== undefined) {
        throw Object.assign(new Error(`haproxy left: ${balancer.how}\n${balancer.log}`), { final: true });
      }
      const nodes = await balancer.nodes();
      return Object.values(nodes).every((node) => node.status === 'UP' && node.check === 'L7OK');
    });
    return balancer;
  }

  /** Where clients connect. */
  get ws() { return `ws://127.0.0.1:${this.port}/connection/websocket`; }
  get http() { return `http://127.0.0.1:${this.port}`; }
  /** Where backends publish. */
  get api() { return `http://127.0.0.1:${this.apiPort}/api`; }

  /** Asks over the runtime socket. */
  async ask(command) {
    const socket = net.connect(path.join(this.folder, 'haproxy.sock')).setEncoding('utf8');
    let answer = '';
    socket.on('data', (data) => { answer += data; });
    socket.end(`${command}\n`);
    await once(socket, 'close');
    return answer.trim();
  }

  /** What it thinks of each node, by name. */
  async nodes() {
    const [head, ...lines] = (await this.ask('show stat')).replace(/^# /, '').split('\n').map((line) => line.split(','));
    const rows = lines.map((line) => Object.fromEntries(head.map((name, at) => [name, line[at]])));
    const nodes = rows.filter((row) => row.pxname === 'nodes' && row.svname !== 'BACKEND');
    return Object.fromEntries(nodes.map((row) => [row.svname, { status: row.status, check: row.check_status, sessions: Number(row.scur) }]));
  }

  /** Sets the state of a node: `drain` or `ready`. */
  async set(node, state) {
    const answer = await this.ask(`set server nodes/${node} state ${state}`);
    if (answer !== '') throw new Error(answer);
  }

  async stop() {
    this.child.kill('SIGKILL');
    await this.exited;
    rmSync(this.folder, { recursive: true, force: true });
  }
}
