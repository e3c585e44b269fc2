// redis-server of the system, on a free port of loopback, keeping nothing on disk.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { cleanEnvironment, freePort } from './server.js';
import { eventually } from './wait.js';

/** Whether something accepts connections there. */
const accepts = (port) => new Promise((resolve) => {
  const socket = net.connect(port, '127.0.0.1');
  socket.on('connect', () => { socket.destroy(); resolve(true); });
  socket.on('error', () => resolve(false));
});

export class Redis {
  /** Starts one and returns once it answers. */
  static async start() {
    const redis = new Redis();
    redis.port = await freePort();
    redis.folder = mkdtempSync(path.join(tmpdir(), 'tidewire-test-'));
    const words = ['--port', redis.port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', redis.folder];
    redis.child = spawn('redis-server', words.map(String), { env: cleanEnvironment(), stdio: 'ignore' });
    redis.exited = new Promise((resolve) => {
      redis.child.on('error', (error) => { redis.how = error; resolve(); });
      redis.child.on('exit', (code) => { redis.how ??= code; resolve(); });
    });
    await eventually('redis-server accepts connections', () => {
      if (redis.how !== undefined) throw Object.assign(new Error(`redis-server left: ${redis.how}`), { final: true });
      return accepts(redis.port);
    });
    return redis;
  }

  get address() { return `redis://127.0.0.1:${this.port}`; }

  async stop() {
    this.child.kill('SIGKILL');
    await this.exited;
    rmSync(this.folder, { recursive: true, force: true });
  }
}
