//! HTTP/2 frames, lawful or not: written, and what a server's hold.

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const PRIORITIZED: u8 = 0x20;

pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const COMPRESSION_ERROR: u32 = 9;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub(crate) fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        pairs.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// A header field without indexing (RFC 7541 §6.2.2), both parts as they are.
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    [&[0][..], &string(name), &string(value)].concat()
}

pub(crate) fn string(text: &str) -> Vec<u8> {
    match text.len() {
        len @ 0..127 => [&[len as u8][..], text.as_bytes()].concat(),
        len => {
            let mut out = vec![127];
            let mut rest = len - 127;
            while rest > 127 {
                out.push(rest as u8 | 128);
                rest >>= 7;
            }
            out.push(rest as u8);
            [out, text.as_bytes().to_vec()].concat()
        }
    }
}

/// The block of `POST https://localhost/plain`, with more fields.
pub(crate) fn block(more: &[(&str, &str)]) -> Vec<u8> {
    let path = literal(":path", "/plain");
    let rest = more.iter().flat_map(|(name, value)| literal(name, value));
    // From the static table: POST, https.
    [vec![0x83, 0x87], literal(":authority", "localhost"), path].concat().into_iter().chain(rest).collect()
}

pub(crate) fn request(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(more))
}

/// A request whose body is still to come.
pub(crate) fn open(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(&[]))
}

pub(crate) fn headers(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

pub(crate) fn code(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

/// The status of an answer: the first field of its block, from the static table or as a literal with the name of one.
pub(crate) fn status(payload: &[u8]) -> u16 {
    match payload {
        [0x88, ..] => 200,
        [0x89, ..] => 204,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        // Name 8 (`:status`), three digits: plain, or in Huffman's code, where digits have five or six bits.
        [0x48 | 0x08, 3, a, b, c, ..] => String::from_utf8(vec![*a, *b, *c]).unwrap().parse().unwrap(),
        [0x48 | 0x08, len, rest @ ..] if len & 128 != 0 => huffman_digits(&rest[..usize::from(len & 127)]),
        other => panic!("no status in {other:?}"),
    }
}

fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let (mut at, mut number) = (0, 0);
    let value = |from: usize, len: usize| {
        bits[from..from + len].iter().fold(0_u16, |n, bit| n << 1 | u16::from(*bit))
    };
    for _ in 0..3 {
        // 0, 1 and 2 are five bits, 3 to 9 six (RFC 7541, appendix B).
        let digit = match value(at, 5) {
            short @ 0..3 => {
                at += 5;
                short
            }
            _ => {
                at += 6;
                value(at - 6, 6) - 0x19 + 3
            }
        };
        number = number * 10 + digit;
    }
    number
}
