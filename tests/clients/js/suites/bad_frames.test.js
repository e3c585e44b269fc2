// Bytes that are no WebSocket messages, against the real server.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';

import { MARKER, underAttack } from '../lib/attack.js';
import { answerHead, closeCode, frame, tcpUpgrade } from '../lib/raw.js';
import { connectionToken } from '../lib/tokens.js';

const config = { channel: { without_namespace: { allow_subscribe_for_client: true } } };
const hello = () => frame(JSON.stringify({ id: 1, connect: { token: connectionToken('mallory') } }));

/** What is sent after a good connect, and the close code it gets. */
const frames = [
  ['w1: an unmasked frame', frame(MARKER, { mask: false }), 1002],
  ['w1: an unmasked ping', frame('', { opcode: 9, mask: false }), 1002],
  ...[1, 2, 4, 3, 5, 6, 7].map((rsv) => [`w2: reserved bits ${rsv.toString(2).padStart(3, '0')}`, frame(MARKER, { rsv }), 1002]),
  ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode) => [`w3: opcode ${opcode}`, frame(MARKER, { opcode }), 1002]),
  ['w4: a ping of 126 bytes', frame('x'.repeat(126), { opcode: 9 }), 1002],
  ['w4: a close of 126 bytes', frame(Buffer.concat([Buffer.from([3, 232]), Buffer.alloc(124, 120)]), { opcode: 8 }), 1002],
  ['w4: a fragmented ping', frame('', { opcode: 9, fin: false }), 1002],
  ['w5: a continuation of nothing', frame(MARKER, { opcode: 0 }), 1002],
  ['w5: a new message inside a fragmented one', Buffer.concat([frame('{', { fin: false }), frame('}')]), 1002],
  ['w5: two thousand fragments of one byte', Buffer.concat([frame('{', { fin: false }),
    ...Array.from({ length: 2000 }, () => frame(' ', { opcode: 0, fin: false }))]), 1008],
  ['w5: a hundred empty fragments', Buffer.concat([frame('{', { fin: false }),
    ...Array.from({ length: 100 }, () => frame('', { opcode: 0, fin: false }))]), 1008],
  ['w6: a length of 2^63', frame('', { claim: 2n ** 63n, lengthForm: 64 }), 1002],
  ['w6: a length of 2^63 - 1', frame('', { claim: 2n ** 63n - 1n, lengthForm: 64 }), 1009],
  ['w6: a length of 1 GiB', frame('', { claim: 2 ** 30, lengthForm: 64 }), 1009],
  ['w6: a short length in 16 bits', frame('{}', { lengthForm: 16 }), 1002],
  ['w6: a short length in 64 bits', frame('{}', { lengthForm: 64 }), 1002],
  ['w6: one byte more than the limit', frame('x'.repeat(65_537)), 1009],
  ['w7: an overlong encoding', frame(Buffer.from([0xc0, 0xaf])), 1007],
  ['w7: a surrogate', frame(Buffer.from([0xed, 0xa0, 0x80])), 1007],
  ['w7: beyond U+10FFFF', frame(Buffer.from([0xf4, 0x90, 0x80, 0x80])), 1007],
  ['w7: a character cut off at the end', frame(Buffer.from([0x22, 0xe4, 0xb8])), 1007],
  ['w7: a character cut off between messages', Buffer.concat([frame(Buffer.from([0xe4]), { fin: false }), frame(Buffer.from([0x41]), { opcode: 0 })]), 1007],
  ['w8: a close with one byte', frame(Buffer.from([3]), { opcode: 8 }), 1002],
  ...[0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535].map((code) =>
    [`w8: a close with code ${code}`, frame(Buffer.from([code >> 8, code & 255]), { opcode: 8 }), 1002]),
  ['w8: a close whose reason is not UTF-8', frame(Buffer.from([3, 232, 0xff]), { opcode: 8 }), 1007],
];

underAttack('bad frames', config, (attack) => {
  for (const [name, bytes, code] of frames) {
    attack(`bad_${name}: ${code}`, async (server) => {
      const socket = await tcpUpgrade(server.port);
      socket.write(Buffer.concat([hello(), bytes]));
      assert.equal(await closeCode(socket), code);
    }, { log: /websocket violation/ });
  }

  attack('bad_w6: a length that lies, then silence from a peer that is gone', async (server) => {
    const socket = await tcpUpgrade(server.port);
    socket.write(frame('abc', { claim: 60_000 }));
    socket.resetAndDestroy();
    await once(socket, 'close');
  });

  attack('bad_w12: a flood of pings: 1008', async (server) => {
    const socket = await tcpUpgrade(server.port);
    socket.write(Buffer.concat([hello(), ...Array.from({ length: 1000 }, () => frame('', { opcode: 9 }))]));
    assert.equal(await closeCode(socket), 1008);
  }, { log: /websocket violation/ });

  attack('bytes that are no HTTP at all are refused', async (server) => {
    const socket = net.connect(server.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write(Buffer.from('\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'.repeat(20), 'latin1'));
    socket.resume();
    await once(socket, 'close');
  });

  const handshakes = [
    ['w9: no key', { 'Sec-WebSocket-Key': undefined }, 400],
    ['w9: a key that is too short', { 'Sec-WebSocket-Key': 'c2hvcnQ=' }, 400],
    ['w9: no version', { 'Sec-WebSocket-Version': undefined }, 400],
    ['w9: version 8', { 'Sec-WebSocket-Version': '8' }, 426],
    ['w9: no upgrade', { Upgrade: undefined }, 400],
    ['w9: an upgrade to something else', { Upgrade: 'h2c' }, 400],
    ['w9: POST', {}, 405, 'POST'],
  ];
  for (const [name, change, status, method = 'GET'] of handshakes) {
    attack(`bad_${name}: ${status}`, async (server) => {
      const headers = {
        Host: '127.0.0.1', Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13',
        'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==', ...change,
      };
      const socket = net.connect(server.port, '127.0.0.1');
      socket.on('error', () => {});
      const lines = Object.entries(headers).filter(([, value]) => value !== undefined).map(([key, value]) => `${key}: ${value}`);
      socket.write([`${method} /connection/websocket HTTP/1.1`, ...lines, '', ''].join('\r\n'));
      const { text } = await answerHead(socket);
      const got = Number(text.split(' ')[1]);
      // A request that does not even ask for an upgrade, or not for version 13, may be told so by either status.
      assert.ok(got === status || (status === 400 && got === 426), text);
      if (got === 426 && name.includes('version')) assert.match(text.toLowerCase(), /sec-websocket-version: 13/);
      socket.destroy();
    });
  }

  attack('bad_w10: headers of 64 KiB: 431', async (server) => {
    const socket = net.connect(server.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write(`GET /connection/websocket HTTP/1.1\r\nHost: x\r\nX-Long: ${MARKER}${'x'.repeat(65_536)}\r\n\r\n`);
    const { text } = await answerHead(socket);
    assert.match(text, /^HTTP\/1.1 (431|400) /);
    socket.destroy();
  });

  // The other way round: odd, but right.
  attack('odd but lawful: a message in fragments with a ping between them', async (server) => {
    const socket = await tcpUpgrade(server.port);
    const text = JSON.stringify({ id: 1, connect: { token: connectionToken('mallory') } });
    socket.write(Buffer.concat([
      frame(text.slice(0, 10), { fin: false }), frame('hi', { opcode: 9 }), frame('', { opcode: 0, fin: false }),
      frame(text.slice(10), { opcode: 0 }), frame(Buffer.from([3, 232]), { opcode: 8 }),
    ]));
    assert.equal(await closeCode(socket), 1000);
  });

  attack('odd but lawful: a JSON client that sends binary messages', async (server) => {
    const socket = await tcpUpgrade(server.port);
    const text = JSON.stringify({ id: 1, connect: { token: connectionToken('mallory') } });
    socket.write(Buffer.concat([frame(text, { opcode: 2 }), frame(Buffer.from([3, 232]), { opcode: 8 })]));
    assert.equal(await closeCode(socket), 1000);
  });

  attack('odd but lawful: a close without a code is answered', async (server) => {
    const socket = await tcpUpgrade(server.port);
    socket.write(Buffer.concat([hello(), frame('', { opcode: 8 })]));
    assert.ok([1000, 1005].includes(await closeCode(socket)));
  });
});
