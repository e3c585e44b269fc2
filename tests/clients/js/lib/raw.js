// Clients that speak no better than they are told to: JSON messages over npm `ws`, or bytes over TCP.

import crypto from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import WebSocket from 'ws';

import { within } from './wait.js';

const isPing = (message) => !Buffer.isBuffer(message) && Object.keys(message).length === 0;

/** A WebSocket whose messages are taken one by one. Pings of the protocol are messages too, unless `pong` answers them. */
export class Raw {
  constructor(address, { protocols = [], pong = false, ...options } = {}) {
    this.socket = new WebSocket(address, protocols, options);
    this.messages = [];
    this.waiting = [];
    this.id = 0;
    this.socket.on('message', (data, binary) => {
      const list = binary ? [data] : data.toString().split('\n').filter((line) => line !== '').map((line) => JSON.parse(line));
      for (const message of list) {
        if (pong && isPing(message)) this.socket.send('{}');
        else this.messages.push(message);
      }
      for (const wake of this.waiting.splice(0)) wake();
    });
    this.socket.on('error', () => {});
    this.closed = new Promise((resolve) => {
      this.socket.on('close', (code, reason) => {
        resolve({ code, reason: reason.toString() });
        for (const wake of this.waiting.splice(0)) wake();
      });
    });
    this.refused = new Promise((resolve) => {
      this.socket.on('unexpected-response', (request, response) => {
        resolve({ status: response.statusCode, headers: response.headers });
        request.destroy();
      });
    });
  }

  static async open(address, options) {
    const raw = new Raw(address, options);
    const refused = raw.refused.then(({ status }) => { throw new Error(`the upgrade was refused: HTTP ${status}`); });
    await within('the upgrade', Promise.race([once(raw.socket, 'open'), refused]));
    return raw;
  }

  /** Opens and connects; `connect` is the request. */
  static async connect(address, connect = {}, options = {}) {
    const raw = await Raw.open(address, options);
    const reply = await raw.ask({ connect });
    if (!reply.connect) throw new Error(`not connected: ${JSON.stringify(reply)}`);
    raw.client = reply.connect.client;
    raw.connected = reply.connect;
    return raw;
  }

  send(...commands) {
    this.socket.send(commands.map((each) => (typeof each === 'string' ? each : JSON.stringify(each))).join('\n'));
  }

  bytes(data) { this.socket.send(data, { binary: typeof data !== 'string' }); }

  async next(timeout) {
    while (this.messages.length === 0) {
      if (this.socket.readyState === WebSocket.CLOSED) throw new Error('closed before the message came');
      await within('a message', new Promise((resolve) => { this.waiting.push(resolve); }), timeout);
    }
    return this.messages.shift();
  }

  /** The next message that `wanted` says yes to; others are dropped. */
  async find(wanted, timeout) {
    for (;;) {
      const message = await this.next(timeout);
      if (wanted(message)) return message;
    }
  }

  /** Sends a command under a fresh id and returns its reply. */
  async ask(command) {
    this.id += 1;
    const { id } = this;
    this.send({ id, ...command });
    return this.find((message) => message.id === id);
  }

  /** The close frame's code and reason (1006: there was none). */
  async end(timeout) { return within('the close', this.closed, timeout); }

  close() { this.socket.terminate(); }
}

/** A WebSocket handshake over bare TCP; what follows is up to the caller. */
export async function tcpUpgrade(port, { path = '/connection/websocket', headers = {} } = {}) {
  const socket = net.connect(port, '127.0.0.1');
  socket.setNoDelay(true);
  socket.on('error', () => {});
  await once(socket, 'connect');
  const lines = [
    `GET ${path} HTTP/1.1`, 'Host: 127.0.0.1', 'Connection: Upgrade', 'Upgrade: websocket',
    'Sec-WebSocket-Version: 13', `Sec-WebSocket-Key: ${crypto.randomBytes(16).toString('base64')}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`), '', '',
  ];
  socket.write(lines.join('\r\n'));
  const head = await answerHead(socket);
  if (!/^HTTP\/1.1 101 /.test(head.text)) throw new Error(`no upgrade: ${head.text.split('\r\n')[0]}`);
  return Object.assign(socket, { early: head.rest });
}

/** The head of an HTTP answer, and what came after it. */
export async function answerHead(socket) {
  let got = Buffer.alloc(0);
  for (;;) {
    const end = got.indexOf('\r\n\r\n');
    if (end >= 0) return { text: got.subarray(0, end).toString('latin1'), rest: got.subarray(end + 4) };
    const [chunk] = await within('an HTTP answer', Promise.race([once(socket, 'data'), once(socket, 'close').then(() => [])]));
    if (chunk === undefined || typeof chunk === 'boolean') throw new Error('closed before an HTTP answer');
    got = Buffer.concat([got, chunk]);
  }
}

/** One frame of a client. Everything can be wrong on purpose. */
export function frame(payload, { opcode = 1, fin = true, rsv = 0, mask = true, lengthForm, claim } = {}) {
  const body = Buffer.from(payload);
  const length = claim ?? body.length;
  const form = lengthForm ?? (length < 126 ? 7 : length < 65536 ? 16 : 64);
  const head = [(fin ? 0x80 : 0) | (rsv << 4) | opcode];
  const bit = mask ? 0x80 : 0;
  if (form === 7) head.push(bit | Number(length));
  else if (form === 16) head.push(bit | 126, (length >> 8) & 255, length & 255);
  else {
    const wide = Buffer.alloc(8);
    wide.writeBigUInt64BE(BigInt(length));
    head.push(bit | 127, ...wide);
  }
  if (!mask) return Buffer.concat([Buffer.from(head), body]);
  const key = crypto.randomBytes(4);
  return Buffer.concat([Buffer.from(head), key, body.map((byte, at) => byte ^ key[at % 4])]);
}

/** Reads a server's frames from a socket until it closes; returns the close code (1006: none came). */
export async function closeCode(socket, timeout) {
  let got = socket.early ?? Buffer.alloc(0);
  const ended = new Promise((resolve) => {
    socket.on('data', (chunk) => { got = Buffer.concat([got, chunk]); });
    socket.on('close', resolve);
    socket.on('end', () => socket.end());
  });
  await within('the end of the connection', ended, timeout);
  for (let at = 0; at + 2 <= got.length;) {
    const opcode = got[at] & 15;
    let length = got[at + 1] & 127;
    let body = at + 2;
    if (length === 126) { length = got.readUInt16BE(body); body += 2; }
    else if (length === 127) { length = Number(got.readBigUInt64BE(body)); body += 8; }
    if (opcode === 8) return length >= 2 ? got.readUInt16BE(body) : 1005;
    at = body + length;
  }
  return 1006;
}
