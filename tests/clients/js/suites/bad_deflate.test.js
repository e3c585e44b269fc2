// Compressed messages that are none, or far too large, against the real server.

import assert from 'node:assert/strict';
import zlib from 'node:zlib';

import { MARKER, underAttack } from '../lib/attack.js';
import { closeCode, frame, tcpUpgrade } from '../lib/raw.js';
import { connectionToken } from '../lib/tokens.js';

const config = {
  websocket: { compression: true },
  channel: { without_namespace: { allow_subscribe_for_client: true } },
};
const RSV1 = 4;
const agreed = { headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate' } };

/** What a lawful sender makes of a message. */
const deflated = (message) => zlib.deflateRawSync(message, { finishFlush: zlib.constants.Z_SYNC_FLUSH }).subarray(0, -4);
const compressed = (payload, options = {}) => frame(payload, { rsv: RSV1, ...options });
const hello = () => compressed(deflated(JSON.stringify({ id: 1, connect: { token: connectionToken('mallory') } })));

const zeros = Buffer.alloc(40 << 20);
const bomb = deflated(zeros);
const last = zlib.deflateRawSync(zeros.subarray(0, 100_000));

/** One message in frames of `size` bytes. */
function fragments(payload, size) {
  const out = [];
  for (let at = 0; at < payload.length; at += size) {
    const fin = at + size >= payload.length;
    out.push(frame(payload.subarray(at, at + size), at === 0 ? { fin, rsv: RSV1, opcode: 2 } : { fin, opcode: 0 }));
  }
  return Buffer.concat(out);
}

/** What is sent after a good connect, and the close code it gets. */
const messages = [
  ['a bomb of 40 MiB', compressed(bomb, { opcode: 2 }), 1009],
  ['a bomb as text', compressed(bomb), 1009],
  ['a bomb in frames of 1000 bytes', fragments(bomb, 1000), 1009],
  ['a bomb in frames of 64 bytes', fragments(bomb, 64), 1009],
  ['many small ones behind each other', compressed(Buffer.concat(Array(100).fill(last)), { opcode: 2 }), 1009],
  ['one byte more than the limit', compressed(deflated(Buffer.alloc(655_361, 32))), 1009],
  ['too long before it is inflated', compressed(Buffer.alloc(65_537), { opcode: 2 }), 1009],
  ['a frame that claims 2^62 bytes', compressed('', { claim: 2n ** 62n, lengthForm: 64 }), 1009],
  ['a bomb in a bomb', compressed(deflated(deflated(zeros.subarray(0, 600_000))), { opcode: 2 }), 3501],
  ['a reserved kind of block', compressed(Buffer.from([0x06])), 1007],
  ['a stored block with a wrong length', compressed(Buffer.from([0, 5, 0, 0, 0, 0x68])), 1007],
  ['a distance before the beginning', compressed(Buffer.from([0x4b, 0x04, 0x22, 0x00])), 1007],
  ['a message that is not compressed at all', compressed(MARKER), 1007],
  ['one that is cut', compressed(deflated(MARKER.repeat(9)).subarray(0, -5)), 1007],
  ['one byte missing', compressed(deflated(MARKER.repeat(9)).subarray(0, -1)), 1007],
  ['the tail that is to be left out', compressed(Buffer.concat([deflated('{}'), Buffer.from([0, 0, 255, 255])])), 1007],
  ['the header of zlib', compressed(zlib.deflateSync(MARKER)), 1007],
  ['the header of gzip', compressed(zlib.gzipSync(MARKER)), 1007],
  ['text that is not UTF-8', compressed(deflated(Buffer.from([0xc0, 0xaf]))), 1007],
  ['text that ends in a character', compressed(deflated(Buffer.from([0x22, 0xe4, 0xb8]))), 1007],
  ['what an earlier message would have explained', compressed(Buffer.from([0x02, 0x13, 0x00, 0x00])), 1007],
  ['a compressed continuation', Buffer.concat([frame('{', { fin: false }), compressed('}', { opcode: 0 })]), 1002],
  ['a compressed continuation of a compressed message',
    Buffer.concat([compressed('a', { fin: false }), compressed('b', { opcode: 0 })]), 1002],
  ['a compressed ping', compressed('', { opcode: 9 }), 1002],
  ['a compressed pong', compressed('', { opcode: 10 }), 1002],
  ['a compressed close', compressed(Buffer.from([3, 232]), { opcode: 8 }), 1002],
  ...[2, 1, 3, 6, 5, 7].map((rsv) => [`reserved bits ${rsv.toString(2).padStart(3, '0')}`, frame(deflated('{}'), { rsv }), 1002]),
  ['a thousand frames of one compressed byte',
    Buffer.concat([compressed('', { fin: false }), ...Array.from({ length: 1100 }, () => frame('\0', { opcode: 0, fin: false }))]), 1008],
];

underAttack('bad compression', config, (attack) => {
  for (const [name, bytes, code] of messages) {
    attack(`bad_w11: ${name}: ${code}`, async (server) => {
      const socket = await tcpUpgrade(server.port, agreed);
      socket.write(Buffer.concat([hello(), bytes]));
      assert.equal(await closeCode(socket), code);
    }, code < 3000 ? { log: /websocket violation/ } : {});
  }

  attack('bad_w11: compressed although it was not agreed on: 1002', async (server) => {
    const socket = await tcpUpgrade(server.port);
    socket.write(hello());
    assert.equal(await closeCode(socket), 1002);
  }, { log: /websocket violation/ });

  for (const offer of ['permessage-deflate; server_max_window_bits=7', 'permessage-deflate; server_max_window_bits=16',
    'permessage-deflate; server_max_window_bits=abc', 'permessage-deflate; server_max_window_bits',
    'permessage-deflate; client_max_window_bits=7', 'permessage-deflate; unheard_of',
    'permessage-deflate; server_no_context_takeover=1', 'permessage-deflate; "', `permessage-deflate${'; x'.repeat(3000)}`,
    'permessage-deflate; server_max_window_bits=8, '.repeat(200)]) {
    attack(`bad_w11: the offer ${offer.slice(0, 60)} is declined`, async (server) => {
      const socket = await tcpUpgrade(server.port, { headers: { 'Sec-WebSocket-Extensions': offer } });
      socket.write(hello());
      assert.equal(await closeCode(socket), 1002);
    });
  }

  attack('bad_w11: a hundred bombs move the memory by less than the limit and 1 MiB', async (server) => {
    const throwBomb = async () => {
      const socket = await tcpUpgrade(server.port, agreed);
      socket.write(Buffer.concat([hello(), compressed(bomb, { opcode: 2 })]));
      assert.equal(await closeCode(socket), 1009);
    };
    // What is made once per thread, and what the allocator keeps, is there after these.
    for (let n = 0; n < 100; n += 1) await throwBomb();
    // The system gives memory in huge pages now and then, whoever asks; what each bomb leaves would show in every round.
    const grown = [];
    for (let round = 0; round < 3; round += 1) {
      const before = await server.metric('process_resident_memory_bytes');
      for (let n = 0; n < 100; n += 1) await throwBomb();
      grown.push(await server.metric('process_resident_memory_bytes') - before);
    }
    assert.ok(Math.min(...grown) <= 655_360 + (1 << 20), `${grown.join(', ')} bytes`);
  });
});
