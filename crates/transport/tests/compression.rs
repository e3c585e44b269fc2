//! permessage-deflate over real sockets: agreed on or not, bounded, and held by nobody who is idle.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod support;

use std::time::Duration;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tidewire_transport::ws::{Decoder, Event, Extension, FrameHeader, Opcode, apply_mask, client_frame};
use tidewire_transport::{CompressionOptions, OriginPolicy, WebSocketOptions};
use tokio::net::TcpStream;

use support::{Raw, Server, Setup};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn compressing(level: u8, min_size: u32) -> Setup {
    let origins = OriginPolicy::parse(&["*"]).unwrap();
    let compression = Some(CompressionOptions { level, min_size });
    let web_socket = WebSocketOptions { origins, compression, ..WebSocketOptions::default() };
    Setup { web_socket, ..Setup::default() }
}

/// A socket after an upgrade with this offer, and the extensions that were answered.
async fn offering(server: &Server, offer: &str) -> (Raw<TcpStream>, Option<String>) {
    let mut raw = Raw::new(TcpStream::connect(server.address).await.unwrap());
    let request = format!(
        "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offer}\r\n"
    );
    raw.send(request.as_bytes()).await;
    let head = raw.http_head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let answer = head.lines().find_map(|line| line.strip_prefix("sec-websocket-extensions: "));
    (raw, answer.map(str::to_owned))
}

async fn deflating(server: &Server) -> Raw<TcpStream> {
    let (mut raw, answer) = offering(server, "Sec-WebSocket-Extensions: permessage-deflate\r\n").await;
    assert!(answer.is_some());
    raw.decoder = Decoder::new(Extension::Deflate);
    raw
}

fn deflated(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 100);
    Compress::new(Compression::default(), false)
        .compress_vec(message, &mut out, FlushCompress::Sync)
        .unwrap();
    out.truncate(out.len() - 4);
    out
}

fn frame(fin: bool, compressed: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let length = payload.len() as u64;
    FrameHeader { fin, compressed, opcode, length, mask: Some(MASK) }.write(&mut out);
    let header = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[header..], MASK, 0);
    out
}

fn text(message: &str) -> Vec<u8> {
    frame(true, true, Opcode::Text, &deflated(message.as_bytes()))
}

#[tokio::test]
async fn it_is_off_unless_configured_and_offered() {
    let off = Server::start(Setup::default()).await;
    let (mut raw, answer) = offering(&off, "Sec-WebSocket-Extensions: permessage-deflate\r\n").await;
    assert_eq!(answer, None);
    raw.send(&text("hello")).await;
    raw.closed_with(1002).await;

    let on = Server::start(compressing(1, 0)).await;
    for offer in ["", "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=8\r\n"] {
        let (mut raw, answer) = offering(&on, offer).await;
        assert_eq!(answer, None);
        raw.text(&"plain ".repeat(100)).await;
        assert_eq!(raw.next_text().await, "plain ".repeat(100));
        raw.send(&text("hello")).await;
        raw.closed_with(1002).await;
    }
}

#[tokio::test]
async fn the_answer_names_what_was_agreed_on() {
    let server = Server::start(compressing(1, 0)).await;
    let offer = "Sec-WebSocket-Extensions: x-other, permessage-deflate; server_max_window_bits=8\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; server_max_window_bits=10\r\n";
    let (_, answer) = offering(&server, offer).await;
    let expected = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                    server_max_window_bits=9; client_max_window_bits=12";
    assert_eq!(answer.as_deref(), Some(expected));
}

#[tokio::test]
async fn messages_are_compressed_where_that_gains() {
    let server = Server::start(compressing(1, 100)).await;
    let mut raw = deflating(&server).await;
    let long = "{\"price\":1}".repeat(1000);
    for message in [long.as_str(), "short", &long[..99]] {
        raw.send(&text(message)).await;
        assert_eq!(raw.next_text().await, message);
    }
    // Counted on the wire: the long one came in a fraction of its bytes.
    raw.send(&text(&long)).await;
    assert!(raw.fill().await < long.len() / 10);
    assert_eq!(raw.next_text().await, long);
    // What deflate cannot shrink is sent as it is: the payload is there byte for byte.
    let random: Vec<u8> = (0..500_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    raw.send(&client_frame(Opcode::Binary, &random, MASK)).await;
    let Some(Event::Message { payload, .. }) = raw.next().await else { panic!("no message") };
    assert_eq!(payload, random);
}

#[tokio::test]
async fn a_receiver_with_a_small_window_gets_what_it_can_read() {
    let server = Server::start(compressing(9, 0)).await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n";
    let (mut raw, _) = offering(&server, offer).await;
    // Repeats itself after more than 512 bytes, so that a larger window would be used if it were there.
    let block: String = (0..700).map(|n| char::from(b'a' + (n * n % 23) as u8)).collect();
    let message = block.repeat(20);
    raw.send(&text(&message)).await;
    let payload = raw.first_payload().await;
    let mut out = Vec::with_capacity(message.len() + 1);
    let input = [&payload[..], &[0, 0, 0xff, 0xff]].concat();
    Decompress::new_with_window_bits(false, 9)
        .decompress_vec(&input, &mut out, FlushDecompress::Sync)
        .unwrap();
    assert_eq!(out, message.as_bytes());
}

#[tokio::test]
async fn fragments_of_a_compressed_message_with_a_ping_between() {
    let server = Server::start(compressing(1, 0)).await;
    let mut raw = deflating(&server).await;
    let message = "a word ".repeat(100);
    let payload = deflated(message.as_bytes());
    let (head, tail) = payload.split_at(payload.len() / 2);
    raw.send(&frame(false, true, Opcode::Text, head)).await;
    raw.send(&client_frame(Opcode::Ping, b"there?", MASK)).await;
    raw.send(&frame(true, false, Opcode::Continuation, tail)).await;
    assert!(matches!(raw.next().await, Some(Event::Pong(payload)) if payload == "there?"));
    assert_eq!(raw.next_text().await, message);
    raw.send(&frame(true, true, Opcode::Text, b"")).await;
    assert_eq!(raw.next_text().await, "");
}

#[tokio::test]
async fn bad_w11_wrong_input_ends_one_connection_and_others_go_on() {
    let mut setup = compressing(1, 0);
    setup.reactor.close_timeout = Duration::from_millis(200);
    let server = Server::start(setup).await;
    let mut witness = deflating(&server).await;
    let bomb = deflated(&vec![0; 40 << 20]);
    let slices: Vec<u8> = {
        let pieces: Vec<&[u8]> = bomb.chunks(1000).collect();
        let last = pieces.len() - 1;
        let opcode = |at| if at == 0 { Opcode::Binary } else { Opcode::Continuation };
        (0..=last).flat_map(|at| frame(at == last, at == 0, opcode(at), pieces[at])).collect()
    };
    for (what, stream, code) in [
        ("bomb", frame(true, true, Opcode::Binary, &bomb), 1009),
        ("bomb in fragments", slices, 1009),
        ("too long as it is", frame(true, true, Opcode::Binary, &vec![0; 65_537]), 1009),
        ("bad block", frame(true, true, Opcode::Binary, b"\xff\xff\xff"), 1007),
        (
            "cut",
            frame(true, true, Opcode::Text, &deflated("a long text, cut".repeat(9).as_bytes())[..9]),
            1007,
        ),
        ("no text", frame(true, true, Opcode::Text, &deflated(b"\xff\xfe\xfd")), 1007),
        ("compressed ping", frame(true, true, Opcode::Ping, b""), 1002),
        (
            "compressed continuation",
            [frame(false, true, Opcode::Text, b"a"), frame(true, true, Opcode::Continuation, b"b")].concat(),
            1002,
        ),
    ] {
        let mut raw = deflating(&server).await;
        raw.send(&stream).await;
        raw.closed_with(code).await;
        witness.send(&text(what)).await;
        assert_eq!(witness.next_text().await, what);
    }
}

/// The whole process: what fifty bombs leave behind, and what a thousand idle connections hold.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn bad_w11_bombs_do_not_move_the_peak() {
    fn peak_kib() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
    let server = Server::start(compressing(1, 0)).await;
    let bomb = frame(true, true, Opcode::Binary, &deflated(&vec![0; 40 << 20]));
    let throw = async || {
        let mut raw = deflating(&server).await;
        raw.send(&bomb).await;
        raw.closed_with(1009).await;
    };
    // Everything that is made once is there after the first.
    throw().await;
    let before = peak_kib();
    for _ in 0..50 {
        throw().await;
    }
    let grown = peak_kib() - before;
    assert!(grown <= 640 + 1024, "{grown} KiB over fifty bombs of 40 MiB");
}
